"""The embedded stack: Postgres, Temporal, simulators, projector, worker, API, each a process."""

from dev.stack.claim import OccupiedError, StackError
from dev.stack.running import Stack, StackOptions, running_stack
from dev.stack.screen import Screen

__all__ = ["OccupiedError", "Screen", "Stack", "StackError", "StackOptions", "running_stack"]
