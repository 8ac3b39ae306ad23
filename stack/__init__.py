"""The embedded stack: Postgres, Temporal, projector, worker and API, each its own process."""

from stack.claim import OccupiedError, StackError
from stack.running import Stack, StackOptions, running_stack
from stack.screen import Screen

__all__ = ["OccupiedError", "Screen", "Stack", "StackError", "StackOptions", "running_stack"]
