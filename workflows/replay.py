"""Replays histories of orders with this code, as a worker with an empty cache does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner

from workflows.data_converter import DATA_CONVERTER
from workflows.order import OrderWorkflow

REASON_CHARACTERS_MAX = 200
_MESSAGE = re.compile(r'message: "(.*?)"')


def replayer(runner: WorkflowRunner | None = None) -> Replayer:
    """A replayer of the order workflow; by default without the sandbox, which is slow."""
    return Replayer(
        workflows=[OrderWorkflow],
        data_converter=DATA_CONVERTER,
        workflow_runner=runner or UnsandboxedWorkflowRunner(),
        # On a busy machine the imports may take two seconds, which is otherwise called a deadlock.
        debug_mode=True,
    )


def reason_of(failure: BaseException) -> str:
    """Why a history does not replay, in one line."""
    said = _MESSAGE.search(str(failure))  # The SDK wraps what the workflow raised.
    return " ".join((said[1] if said else str(failure)).split())[:REASON_CHARACTERS_MAX]


async def begun(histories: AsyncIterator[WorkflowHistory]) -> AsyncIterator[WorkflowHistory]:
    """The histories with anything to replay; for any other, the replayer would wait for ever.

    After a continue-as-new, Temporal may delay the first workflow task of the next run by a second.
    """
    async for history in histories:
        if len(history.events) > 1:
            yield history
