"""The embedded stack: Postgres, Temporal, stand-ins, projector, worker, API, each a process."""

from stack.claim import OccupiedError, StackError
from stack.running import Stack, StackOptions, running_stack
from stack.screen import Screen

__all__ = ["OccupiedError", "Screen", "Stack", "StackError", "StackOptions", "running_stack"]
