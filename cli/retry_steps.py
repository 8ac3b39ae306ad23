"""Sends `retry-step` to all orders with stuck steps, at a bounded rate."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import asyncpg
from temporalio.client import Client

from api.context import short_hash
from api.gateway.command_message import CommandMessage
from api.gateway.gateway import Gateway
from api.problems.errors import OrderOrphaned, ServiceError, UnknownOrder
from orders.commands import RetryStep
from orders.steps import SERVICE_OF_STEP
from orders.upcasting import UnreadableEvent
from readside.order_view.stuck_steps import StuckSteps, orders_with_stuck_steps
from workflows.command_handler import Rejected
from workflows.messages import CommandBatch

ACTOR = "operator:retry-steps"
ORDERS_PER_SECOND = 20.0  # A service that has just come back gets no more calls than this.
WAIT_SECONDS = 10.0


class Interrupted(Exception):
    """Why the rest of the orders were not retried, as the rest of a sentence."""


async def stuck_orders(pool: asyncpg.Pool, service: str | None) -> list[StuckSteps]:
    """The orders with stuck steps at a service, or at any, the oldest first."""
    return [
        StuckSteps(order.order_id, order.version, types)
        async for order in orders_with_stuck_steps(pool)
        if (types := _at(service, order.types))
    ]


def summary(orders: Sequence[StuckSteps]) -> str:
    """How many orders have stuck steps, by service."""
    services = (
        service
        for order in orders
        for service in {SERVICE_OF_STEP[type_] for type_ in order.types.values()}
    )
    counted = ", ".join(
        f"{number:,} at {name}" for name, number in sorted(Counter(services).items())
    )
    return f"{len(orders):,} orders have stuck steps: {counted}." if orders else "No step is stuck."


async def retry(
    client: Client, pool: asyncpg.Pool, task_queue: str, orders: Sequence[StuckSteps]
) -> AsyncIterator[bool]:
    """Retries order by order; yields whether each was still stuck. Raises Interrupted."""
    gateway, now = Gateway(client, pool, task_queue), asyncio.get_running_loop().time
    began = now()
    for number, order in enumerate(orders):
        await asyncio.sleep(began + number / ORDERS_PER_SECOND - now())
        try:
            result = await gateway.execute(message(order), WAIT_SECONDS)
        except (Rejected, UnknownOrder, OrderOrphaned, UnreadableEvent):
            yield False
        except ServiceError as error:
            raise Interrupted(f"{type(error).__doc__}".rstrip(".")) from error
        else:
            yield bool(result.event_types)


def message(order: StuckSteps) -> CommandMessage:
    """The command for an order as it was read: the same order, read again, has the same id."""
    command_id = short_hash("retry-steps", order.order_id, f"{order.version}", *order.types)
    return CommandMessage(
        order_id=order.order_id,
        command_id=command_id,
        batch=CommandBatch(
            commands=[RetryStep(step_id=step_id) for step_id in order.types],
            actor=ACTOR,
            payload_hash=command_id,
            attempt_id=secrets.token_urlsafe(9),
        ),
    )


def _at(service: str | None, types: dict[str, str]) -> dict[str, str]:
    return {
        step_id: type_
        for step_id, type_ in types.items()
        if service in (None, SERVICE_OF_STEP.get(type_))
    }
