"""Shows in the terminal how a stack starts and stops, and its addresses."""

from __future__ import annotations

import time
from contextlib import suppress

from rich.console import Console

from dev.stack.prometheus import MISSING
from dev.stack.read_models import REBUILDING
from dev.stack.stack import INFO_FILE, Stack


class ProgressDisplay:
    """A line for each process that has started or stopped, and a spinner for those that are."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._status = self._console.status("")
        self._since: dict[str, float] = {}

    def report(self, name: str, state: str) -> None:
        """Shows the new state of a process."""
        with suppress(OSError, SystemExit):  # The terminal may be closed; the stack continues.
            self._show(name, state)

    def _show(self, name: str, state: str) -> None:
        is_rebuilding = state.startswith(REBUILDING)
        if is_rebuilding or state in ("starting", "stopping"):
            self._since.setdefault(name, time.monotonic())
        else:
            since = self._since.pop(name, None)
            took = "" if since is None else f" after {time.monotonic() - since:.1f} s"
            self._console.print(f"  {name:<10} {state}{took}", markup=False)
        if not self._since:
            self._status.stop()
        elif is_rebuilding:
            self._status.update(f"{name}: {state}")
            self._status.start()
        elif state in ("starting", "stopping"):
            self._status.update(f"{state} {', '.join(self._since)} …")
            self._status.start()

    def welcome_to_servers(self, stack: Stack) -> None:
        """Prints how to run `orderly restore` on a stack of which only the servers run."""
        self._console.print(
            "\nOnly Postgres and Temporal run. To repair them:\n"
            f"\n  export ORDERLY_POSTGRES_DSN='{stack.postgres_dsn}'"
            f"\n  export TEMPORAL_ADDRESS={stack.temporal_address}"
            "\n  orderly restore status"
            "\n\nThen press Ctrl-C, and run `orderly up` without --servers-only.\n",
            markup=False,
        )

    def welcome(self, stack: Stack, farewell: str, *, has_prometheus: bool = False) -> None:
        """Prints the addresses, how to place a first order, and what Ctrl-C does (`farewell`).

        With `has_prometheus`, where it is, or that it is not installed.
        """
        prometheus = f"\n  Prometheus   {stack.prometheus_url or MISSING}"
        body = (
            '{"customer_id": "900", "currency": "USD", "place": true, "lines": '
            '[{"sku": "1095275", "title": "Bagels", "quantity": 2, "unit_price": 50}]}'
        )
        self._console.print(
            f"\n  Console      {stack.console_url}"
            f"\n  API          {stack.api_url}/docs"
            f"\n  Temporal UI  {stack.temporal_ui_url}"
            f"\n  Postgres     {stack.postgres_dsn}"
            f"\n  Simulators   {stack.simulators_url}/payments/docs (/stock, /shipping)"
            f"\n  Metrics      {stack.admin_urls['api']}/metrics"
            f" (all: {stack.logs.parent / INFO_FILE})"
            f"{prometheus if has_prometheus else ''}"
            f"\n  Logs         {stack.logs}"
            f"\n\nPlace an order:\n\n  curl -i {stack.api_url}/v1/orders \\"
            "\n    -H 'Content-Type: application/json' -H 'Idempotency-Key: my-first-order' \\"
            f"\n    -d '{body}'"
            f"\n\n{farewell}\n",
            markup=False,
        )
