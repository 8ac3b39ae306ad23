"""Runs all checks of one service, and yields what each has found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx

from dev.contract_check import payments, shipping, stock
from dev.contract_check.calls import Caller, Unreachable, Wrong
from dev.contract_check.examples import Examples

__all__ = ["CHECKS", "Examples", "Finding", "Unreachable", "check"]

CHECKS = {"payments": payments.CHECKS, "stock": stock.CHECKS, "shipping": shipping.CHECKS}


class Finding(NamedTuple):
    """One rule of the contract, and how the service breaks it; None if it does not."""

    rule: str
    fault: str | None

    def __str__(self) -> str:
        if self.fault is None:
            return f"ok     {self.rule}"
        return f"WRONG  {self.rule}\n       {self.fault}."


async def check(
    service: str, url: str, timeout_s: float, examples: Examples, headers: dict[str, str]
) -> AsyncIterator[Finding]:
    """Plays the contract of a service; raises Unreachable if nothing answers at its URL."""
    async with httpx.AsyncClient(timeout=timeout_s, trust_env=False, headers=headers) as http:
        caller = Caller(http, url, timeout_s)
        for rule, run in CHECKS[service].items():
            try:
                await run(caller, examples)
            except Wrong as wrong:
                yield Finding(rule, str(wrong))
            else:
                yield Finding(rule, None)
