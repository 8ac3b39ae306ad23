"""The asynchronous commands of an order that no run has executed yet.

They wait while the order is reopened, or for a version of the software that can read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Protocol

from temporalio import workflow

from eventlog.envelope import bytes_of
from workflows.idempotency import CommandStatus
from workflows.messages import QueuedCommands
from workflows.unreadable import can_read, delays

COMMAND = "command "
# As long as an idempotency key counts.
UNREAD_TIMEOUT = timedelta(hours=24)
# Of commands that wait for another version. They are a part of the snapshot: see capacity.py.
UNREAD_BYTES_MAX = 50_000


class CommandShell(Protocol):
    """The workflow of an order, as far as its asynchronous commands are concerned."""

    reopening: bool
    """It has not read all of the log yet, and rejects what it is asked."""

    def execute_queued(self, queued: QueuedCommands) -> None:
        """Executes commands that this version can read, and stores their result or rejection."""

    def give_up(self, queued: QueuedCommands) -> None:
        """Stores that no version could read commands in time."""

    def after_reading(self) -> None:
        """Called after each attempt to read what was unreadable."""


class CommandQueue:
    """The commands that wait, oldest first. What a version cannot read does not hold up others."""

    def __init__(self, commands: Iterable[QueuedCommands], shell: CommandShell) -> None:
        self.commands = list(commands)
        self._shell = shell
        self._attempts = 0
        self._unread = set[str]()

    def status_of(self, command_id: str) -> CommandStatus | None:
        """The status of commands that wait; None if they do not."""
        for queued in self.commands:
            if queued.command_id == command_id:
                return CommandStatus(is_unread=not queued.batch.is_readable)
        return None

    def add(self, queued: QueuedCommands) -> None:
        """Keeps commands until `execute_all`."""
        self.commands.append(queued)

    def execute(self, queued: QueuedCommands) -> None:
        """Executes commands, or keeps them until a version runs the order that can read them.

        A repetition waits with them for the next attempt: a replay of this one takes both for
        unreadable.
        """
        attempt = f"{COMMAND}{queued.command_id} {self._attempts}"
        if attempt not in self._unread and can_read(attempt, queued.batch.is_readable):
            self._shell.execute_queued(queued)
            return
        self._unread.add(attempt)
        if self._is_too_old(queued) or not self._has_room(queued):
            self._shell.give_up(queued)
        elif self.status_of(queued.command_id) is None:
            received_at = queued.received_at or workflow.now()
            self.add(queued.model_copy(update={"received_at": received_at}))

    def execute_all(self) -> None:
        """Executes what waits; what this version cannot read stays."""
        waiting, self.commands = self.commands, []
        for queued in waiting:
            self.execute(queued.read_again())
        self._shell.after_reading()

    async def retry_unread(self) -> None:
        """Tries again to read commands, for as long as the order lives.

        Usually a new run does that; without versioned workers, a newer one takes over this run.
        """
        while True:
            await workflow.wait_condition(lambda: self._has_unread)
            for delay in delays():
                await workflow.sleep(delay, summary="before unreadable commands are tried again")
                self._attempts += 1
                if not self._shell.reopening:  # Otherwise, they are executed when it is reopened.
                    self.execute_all()
                if not self.commands:
                    break

    @property
    def _has_unread(self) -> bool:
        """Whether commands wait for another version, and not for the order to be reopened."""
        return any(queued.received_at is not None for queued in self.commands)

    def _is_too_old(self, queued: QueuedCommands) -> bool:
        received_at = queued.received_at
        return received_at is not None and workflow.now() - received_at > UNREAD_TIMEOUT

    def _has_room(self, queued: QueuedCommands) -> bool:
        return bytes_of([*self.commands, queued]) <= UNREAD_BYTES_MAX
