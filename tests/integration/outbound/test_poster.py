"""Single attempts at receivers whose name changes its address, or whose TLS never begins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from dev.stack.ports import LOOPBACK
from outbound.webhooks import poster
from outbound.webhooks.addresses import Address, AllowedNetworks
from outbound.webhooks.poster import Answer, Poster, Verdict
from tests.support.webhook_receiver import Received, Reply, receiving
from tests.support.webhooks import LOOPBACK_NETWORKS

HERE, INSIDE = ip_address(LOOPBACK), ip_address("10.0.0.1")
HEADERS = {"webhook-id": "ord_x@1", "content-length": "2"}
SECONDS_MAX = 60.0


@asynccontextmanager
async def posting(url: str) -> AsyncIterator[Callable[[], asyncio.Task[Answer]]]:
    to = Poster(url, AllowedNetworks(LOOPBACK_NETWORKS), 1, SECONDS_MAX, lambda: datetime.now(UTC))
    try:
        yield lambda: asyncio.create_task(to.post(HEADERS, b"{}"))
    finally:
        await to.close()


async def test_name_is_resolved_once_for_each_connection_and_only_to_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that changes its mind between the check and the connection gains nothing by it."""
    answers: list[list[Address]] = [[HERE], [INSIDE, HERE], [INSIDE]]

    async def resolve(host: str, _port: int) -> list[Address]:
        assert host == "shop.example"
        return answers.pop(0)

    def respond(_: Received) -> Reply:
        return Reply(headers={"Connection": "close"})

    monkeypatch.setattr(poster, "resolve", resolve)
    async with receiving(respond) as receiver:
        port = receiver.url.split(":")[2]
        async with posting(f"http://shop.example:{port}") as post:
            assert [(await post()).verdict for _ in range(2)] == [Verdict.DELIVERED] * 2
            assert (receiver.connections, answers) == (2, [[INSIDE]])
            refused = await post()
    assert refused.verdict is Verdict.UNREACHABLE
    assert "shop.example has no address that webhooks may go to" in str(refused.error)
    assert (receiver.connections, answers) == (2, [])


# The head of a TLS record of 16 KiB, which then never comes to its end.
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x03\x40\x00"], ids=["silent", "by drops"])
async def test_tls_that_does_not_begin_is_given_up(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(poster, "CONNECT_SECONDS_MAX", 0.2)
    ended = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = asyncio.create_task(reader.read())  # It ends when the client hangs up.
        writer.write(sent)
        while not hello.done():
            writer.write(b"\x02" if sent else b"")
            await asyncio.wait([hello], timeout=0.01)
        writer.close()
        ended.set()

    server = await asyncio.start_server(drip, LOOPBACK, 0)
    async with server, posting(f"https://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/") as post:
        answer = await post()
        assert answer.verdict is Verdict.UNREACHABLE
        assert answer.latency_ms < SECONDS_MAX * 1000
        await asyncio.wait_for(ended.wait(), SECONDS_MAX)
