"""`orderly status`: each state in words, with a remedy for each that is not ok."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from cli import status
from cli.status import Finding, NoAnswer, fetch, findings

FINE: dict[str, Any] = {
    "ready": True,
    "commands": {"ready": True, "reasons": []},
    "reads": {"ready": True, "reasons": []},
    "temporal": "ok",
    "workers": "ok",
    "postgres": "ok",
    "projections": {"order_view": "ok", "lead_times": "ok"},
    "waiting_orders": {"stock": 0, "payments": 0, "shipping": 0},
    "parked_orders": 0,
    "unpublished_orders": 0,
    "worker_versions": {"orderly:v1": "ok"},
    "failing_orders": 0,
    "event_delivery": {"webhooks": "ok", "relay nats": "ok"},
}
UNKNOWN: dict[str, Any] = {
    "projections": {},
    **dict.fromkeys(("waiting_orders", "parked_orders", "unpublished_orders")),
    **dict.fromkeys(("worker_versions", "failing_orders", "event_delivery")),
}


def wrong(**states: Any) -> list[Finding]:
    return [finding for finding in findings(FINE | states) if finding.remedy]


def test_nothing_is_wrong() -> None:
    assert wrong() == []
    names = [finding.name for finding in findings(FINE)]
    assert names[:5] == ["commands", "reads", "temporal", "workers", "postgres"]
    assert names[5:10] == ["order_view", "lead_times", "stock", "payments", "shipping"]
    assert {finding.state for finding in findings(FINE)} == {"ready", "ok"}


@pytest.mark.parametrize(
    ("states", "name", "remedy"),
    [
        ({"temporal": "unreachable: no answer"}, "temporal", "TEMPORAL_ADDRESS"),
        ({"temporal": "not serving"}, "temporal", "check the server"),
        ({"workers": "no worker has been heard of for 12 seconds"}, "workers", "orderly worker"),
        ({"postgres": "unreachable: no answer", **UNKNOWN}, "postgres", "wait_event_type"),
        ({"postgres": "full: all of its connections are in use"}, "postgres", "usename"),
        ({"postgres": "read-only"}, "postgres", "standby"),
        ({"postgres": "not migrated: run `orderly migrate`", **UNKNOWN}, "postgres", "start"),
        ({"projections": {"order_view": "no projector for 7 seconds"}}, "order_view", "projector"),
        ({"projections": {"order_view": "stopped: it fails"}}, "order_view", "operations.md"),
        ({"projections": {"order_view": "9 seconds behind"}}, "order_view", "backend_xid"),
        ({"waiting_orders": {"payments": 3}}, "payments", "retry-steps --service payments"),
        ({"parked_orders": 1}, "parked orders", "projections parked"),
        ({"unpublished_orders": 2}, "unpublished orders", "reach Postgres"),
        ({"failing_orders": 2}, "failing orders", "orderly stuck"),
        ({"event_delivery": {"webhooks": "no deliverer runs"}}, "webhooks", "orderly deliverer"),
        ({"event_delivery": {"webhooks": "2 orders are parked"}}, "webhooks", "webhook-endpoints"),
        ({"event_delivery": {"relay nats": "no relay runs"}}, "relay nats", "orderly relay"),
        ({"event_delivery": {"relay nats": "the broker has not"}}, "relay nats", "relay's log"),
        ({"worker_versions": {"o:1": "no workers for 2 orders"}}, "o:1", "move-orders --from"),
        ({"workers": "no version is current: `orderly versions`"}, "workers", "releasing.md"),
        ({"workers": "no worker of the current version o:1"}, "workers", "releasing.md"),
    ],
)
def test_remedy_of(states: dict[str, Any], name: str, remedy: str) -> None:
    (finding,) = wrong(**states)
    assert finding.name == name
    assert remedy in finding.remedy
    assert f"{finding}".count("\n") == 0


def test_old_temporal_that_lists_no_workers_is_not_wrong() -> None:
    assert wrong(workers="unknown: Temporal does not list workers") == []


async def test_silent_server_is_no_answer_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "ANSWER_SECONDS_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with asyncio.timeout(60):
            with pytest.raises(NoAnswer, match=r"does not answer at .* within 0\.2 seconds"):
                await fetch(url)
    with pytest.raises(NoAnswer, match="does not answer"):
        await fetch(url)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>"])
async def test_other_server_is_named(body: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NoAnswer, match="not the admin address of an orderly API"):
            await fetch(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
