"""Runs all checks of one service, and yields what each has found."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import NamedTuple

from activities.credentials import Credentials
from activities.service_client import http_client
from dev.contract_check import payments, shipping, stock
from dev.contract_check.calls import Call, Caller, Unreachable, Wrong
from dev.contract_check.examples import Examples

__all__ = ["CHECKS", "Examples", "Finding", "Unreachable", "check"]

CHECKS = {"payments": payments.CHECKS, "stock": stock.CHECKS, "shipping": shipping.CHECKS}


FIRST_CALLS: Mapping[str, Callable[[Examples], Call]] = {
    "payments": lambda examples: payments.authorisation(examples.method),
    "stock": lambda examples: stock.reservation(examples.sku),
    "shipping": lambda examples: shipping.booking(shipping.new_shipment(), examples),
}


async def strangers(
    first_call: Callable[[Examples], Call], caller: Caller, examples: Examples
) -> None:
    """A call without our credentials is a 401 or 403."""
    call = first_call(examples)
    status = (await caller.anonymous().send(call)).status_code
    if status not in (401, 403):
        raise Wrong(f"{call} without credentials answered {status}")


class Finding(NamedTuple):
    """One rule of the contract, and how the service breaks it; None if it does not."""

    rule: str
    fault: str | None

    def __str__(self) -> str:
        if self.fault is None:
            return f"ok     {self.rule}"
        return f"WRONG  {self.rule}\n       {self.fault}."


async def check(
    service: str,
    url: str,
    timeout_s: float,
    examples: Examples,
    credentials: Credentials,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Finding]:
    """Plays the contract of a service; raises Unreachable if nothing answers at its URL."""
    async with http_client(timeout_s, tls) as http:
        caller = Caller(http, url, timeout_s, credentials)
        checks = dict(CHECKS[service])
        if credentials.are_given:
            checks |= {strangers.__doc__ or "": partial(strangers, FIRST_CALLS[service])}
        for rule, run in checks.items():
            try:
                await run(caller, examples)
            except Wrong as wrong:
                yield Finding(rule, str(wrong))
            else:
                yield Finding(rule, None)
