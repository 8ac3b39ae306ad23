"""Plays the contract of payments, stock and shipping against a service, and names its faults."""

from dev.contract_check.checker import Examples, Finding, Unreachable, check

__all__ = ["Examples", "Finding", "Unreachable", "check"]
