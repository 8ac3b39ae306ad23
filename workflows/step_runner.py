"""Runs an order's steps: calls external services until each step has a result."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Protocol

from temporalio import workflow
from temporalio.exceptions import ActivityError

from orders.order import Order
from orders.rules.process import next_steps
from orders.steps import AnyStep, StepFailed, StepRequest, StepResult
from workflows.activity_options import (
    REJECTED_STEP_DELAY,
    STEP_ACTIVITIES,
    STEP_RETRY,
    STEP_TIMEOUT,
    STUCK_SECONDS,
    service_queue,
    stuck_queue,
    stuck_retry,
    summary,
)

_RESULT: Any = StepResult  # The converter accepts a union of models, although it is no class.


class OrderShell(Protocol):
    """The workflow of an order, as far as its steps are concerned."""

    order: Order
    traces: dict[str, str]
    """By step id, the trace of the command that asked for it; empty without one."""

    def apply_result(self, result: StepResult, source: str, traceparent: str | None = None) -> None:
        """Decides on a result as on a command; none is rejected."""


class StepRunner:
    """The steps that are running now, each in a task of its own."""

    def __init__(self, shell: OrderShell) -> None:
        self._shell = shell
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Runs the order's steps concurrently, each until it has a result."""
        while True:
            await workflow.wait_condition(
                lambda: (
                    {step.step_id for step in next_steps(self._shell.order)} != self._running.keys()
                    or any(task.done() for task in self._running.values())
                )
            )
            for task in self._running.values():
                if task.done():
                    task.result()  # Raises what a bug in here raised.
            # A step that the order no longer has was settled otherwise; its call ends by itself.
            self._running = {
                step.step_id: self._running.get(step.step_id)
                or asyncio.create_task(self._run_step(step))
                for step in next_steps(self._shell.order)
            }

    async def _run_step(self, step: AnyStep) -> None:
        """Calls the service until there is a result, or until the step is settled otherwise."""
        shell, service = self._shell, step.service
        trace = shell.traces.get(step.step_id) or None
        request = StepRequest(
            order_id=workflow.info().workflow_id,
            customer_id=shell.order.customer_id,
            currency=shell.order.currency,
            step=step,
            traceparent=trace,
        )
        retry = STEP_RETRY
        while step.step_id in shell.order.steps:
            queue = service_queue if retry is STEP_RETRY else stuck_queue
            call = workflow.start_activity(
                STEP_ACTIVITIES[type(step)],
                request,
                task_queue=queue(workflow.info().task_queue, service),
                result_type=_RESULT,
                start_to_close_timeout=STEP_TIMEOUT,
                retry_policy=retry,
                summary=summary(step, shell.order.currency),
            )
            if retry is not STEP_RETRY and not await self._ends_while_stuck(call, step.step_id):
                retry = STEP_RETRY
                continue
            is_rejected = True
            try:
                result: StepResult = await call
                shell.apply_result(result, service, trace)
                reason = f"{service} said {result.type}, which does not settle the step"
            except ActivityError as error:
                reason = getattr(error.cause, "message", str(error))
                is_rejected = getattr(error.cause, "non_retryable", False)
            retry = STEP_RETRY
            if step.step_id in shell.order.steps:
                failed = StepFailed(step_id=step.step_id, reason=reason)
                shell.apply_result(failed, service, trace)
                if is_rejected:
                    await self._wait_while_stuck(step.step_id)
                else:
                    retry = stuck_retry(workflow.random().uniform(*STUCK_SECONDS))

    async def _ends_while_stuck(
        self, call: workflow.ActivityHandle[StepResult], step_id: str
    ) -> bool:
        """Whether a call ends before a person retries or settles the step; else cancels it."""
        await workflow.wait_condition(lambda: call.done() or not self._is_stuck(step_id))
        if not call.done():
            call.cancel()
            with suppress(ActivityError):
                await call
            return False
        return True

    async def _wait_while_stuck(self, step_id: str) -> None:
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: not self._is_stuck(step_id),
                timeout=REJECTED_STEP_DELAY,
                timeout_summary=f"before {step_id} is tried again, or on retry-step",
            )

    def _is_stuck(self, step_id: str) -> bool:
        return step_id in self._shell.order.stuck_steps
