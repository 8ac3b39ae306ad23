"""The embedded stack: Postgres, Temporal, simulators, projector, deliverer, worker, API."""

from dev.stack.display import ProgressDisplay
from dev.stack.errors import ResourceInUse, StackError
from dev.stack.stack import Stack, StackOptions, run_stack

__all__ = ["ProgressDisplay", "ResourceInUse", "Stack", "StackError", "StackOptions", "run_stack"]
