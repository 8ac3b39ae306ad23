"""`orderly order` and `orderly erase`: how commands find the running stack, and ask first."""

from __future__ import annotations

import asyncio
import json
import struct
from datetime import UTC
from pathlib import Path

import asyncpg
import pytest
from typer.testing import CliRunner

from cli import confirmation
from cli.info_file import settings_of
from cli.main import app
from cli.order_story import NoSuchOrder, read, story
from dev.stack.stack import Stack
from orders.events import OrderCancelled, ShippingAddressSet
from tests.support.command_builders import new_order_id
from tests.support.processes import assert_one_sentence, run_inside
from tests.support.projections import BAGELS, OPENED, project_all, publish, publish_unreadable
from tests.support.webhook_signing import new_secret

DEMO_ADDRESS = ShippingAddressSet(address="sealed.1.a.b")


async def test_story_says_what_happened_who_asked_and_what_it_waits_for(
    pool: asyncpg.Pool,
) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED, BAGELS, DEMO_ADDRESS)
    assert list(story(await read(pool, order_id), UTC)) == [
        f"Order {order_id} of customer 900: draft, 0.90 USD",
        "\n1 January 2017, times in UTC",
        "\n11:53:26  somebody: add-note, request r",
        "     1  The order was opened for customer 900.",
        "     2  2 × BAGELS were added, 0.50 USD each, less 0.10 USD.",
        "     3  The shipping address was set.",
        "",
        "It waits for",
        "  the customer: `place-order` places it.",
    ]
    await publish(pool, order_id, 4, OrderCancelled(reason="bought elsewhere"))
    assert list(story(await read(pool, order_id), UTC))[-3:] == [
        "     4  The order was cancelled (bought elsewhere).",
        "",
        "It waits for nothing.",
    ]


async def test_story_with_an_event_of_a_newer_release_goes_on(pool: asyncpg.Pool) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await publish_unreadable(pool, order_id, 2)
    await publish(pool, order_id, 3, BAGELS)
    *_, unreadable, added, _, ending = story(await read(pool, order_id), UTC)
    assert unreadable == "     2  A newer release wrote this event: order-teleported."
    assert added.endswith("2 × BAGELS were added, 0.50 USD each, less 0.10 USD.")
    assert ending.startswith("Run the newest version")
    with pytest.raises(NoSuchOrder, match="ord_none"):
        await read(pool, "ord_none")


@pytest.fixture
def stack_file(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The info file of a running stack, in the folder in which commands run now."""
    stack = Stack(
        *("http://127.0.0.1:1", "127.0.0.1:2", "default", "orders", "", dsn, "http://127.0.0.1:3"),
        logs=tmp_path / ".orderly" / "logs",
        api_urls=[],
        admin_urls={},
        service_urls={"payments": "https://payments.internal"},
    )
    file = tmp_path / ".orderly" / "stack.json"
    file.parent.mkdir()
    (file.parent / "webhook.secret").write_text(new_secret())
    stack.write_info(file)
    monkeypatch.chdir(tmp_path)
    for name in settings_of(json.loads(file.read_text())):
        monkeypatch.setenv(name, "")  # What a command sets ends with the test.
    return file


async def test_commands_find_the_running_stack(stack_file: Path, pool: asyncpg.Pool) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    told = await asyncio.to_thread(run_inside, "order", order_id)
    assert (told.returncode, told.stderr) == (0, "")
    assert "The order was opened for customer 900." in told.stdout
    unknown = await asyncio.to_thread(run_inside, "order", "ord_none")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert_one_sentence(unknown.stderr)

    settings = settings_of(json.loads(stack_file.read_text()))
    assert settings["ORDERLY_PAYMENTS_URL"] == "https://payments.internal"
    assert settings["ORDERLY_STOCK_URL"] == "http://127.0.0.1:3/stock"
    assert Path(settings["ORDERLY_WEBHOOK_SECRET_FILE"]).read_text().startswith("whsec_")


@pytest.mark.parametrize("name", ["ORDERLY_POSTGRES_DSN", "TEMPORAL_ADDRESS"])
def test_servers_of_the_environment_win_over_the_stack(
    stack_file: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "elsewhere:1")
    ended = run_inside("order", "ord_x")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "ORDERLY_POSTGRES_DSN" in ended.stderr


async def test_erase_names_the_orders_and_asks(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for events in ([OPENED, DEMO_ADDRESS], [OPENED], [OPENED, DEMO_ADDRESS, OrderCancelled()]):
        await publish(pool, new_order_id(), 1, *events)
    await project_all(dsn)
    await pool.execute(
        "INSERT INTO customer_keys (key_id, customer_id, secret) VALUES ('k', '900', 'x')"
    )
    erase = ("erase", "900")

    unasked = await asyncio.to_thread(run_inside, *erase, ORDERLY_POSTGRES_DSN=dsn)
    assert (unasked.returncode, unasked.stdout) == (2, "")
    assert "customer 900 for ever: 1 open order loses its address. Nothing" in unasked.stderr
    assert_one_sentence(unasked.stderr)

    monkeypatch.setattr(confirmation, "has_terminal", lambda: True)

    async def answering(answer: str) -> tuple[int, bool]:
        env = {"ORDERLY_POSTGRES_DSN": dsn}
        ended = await asyncio.to_thread(CliRunner().invoke, app, erase, input=answer, env=env)
        return ended.exit_code, "Customer 900 is erased.\n" in ended.stdout

    assert await answering("n\n") == (1, False)
    assert await pool.fetchval("SELECT secret FROM customer_keys") == b"x"
    assert await answering("y\n") == (0, True)
    assert await pool.fetchval("SELECT secret FROM customer_keys") is None


@pytest.mark.parametrize(
    "command",
    [("order", "ord_x"), ("migrate",), ("verify", "--no-history"), ("erase", "900", "--yes")],
    ids=lambda command: command[0],
)
async def test_wrong_password_is_one_line(command: tuple[str, ...]) -> None:
    """The embedded server asks for no password, so this one only refuses."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = b'SFATAL\0C28P01\0Mpassword authentication failed for user "olga"\0\0'
        while (request := await reader.read(8)) and request[4:8] == b"\x04\xd2\x16\x2f":
            writer.write(b"N")  # It has no TLS.
        await reader.read(4096)
        writer.write(b"E" + struct.pack("!i", len(message) + 4) + message)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        dsn = f"postgresql://olga:secret@127.0.0.1:{port}/orderly"
        ended = await asyncio.to_thread(run_inside, *command, ORDERLY_POSTGRES_DSN=dsn)
    assert (ended.returncode, ended.stdout) == (2 if command[0] == "verify" else 1, "")
    assert 'password authentication failed for user "olga"' in ended.stderr
    assert "secret" not in ended.stderr
    assert_one_sentence(ended.stderr)
