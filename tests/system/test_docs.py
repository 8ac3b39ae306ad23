"""The commands and names in README and docs are correct."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from random import Random
from types import ModuleType

import asyncpg
import pytest

from contracts import lifecycle
from dev.random_orders import RandomOrder
from orders.events import OrderPlaced
from readside.engine import parking, rebuild
from readside.engine.migrate import migrate
from readside.engine.projection import Projection
from readside.registry import PROJECTIONS
from settings import VARIABLES, Settings
from tests.support.api_requests import BAGELS, opened, shown
from tests.support.command_builders import new_order_id
from tests.support.event_feed import read_on
from tests.support.paths import ROOT
from tests.support.projections import BAGELS as BAGELS_ADDED
from tests.support.projections import OPENED, publish
from tests.support.servers import Running, run_api, run_projector
from tests.support.token_issuer import ec_key, issuing
from tests.support.webhook_receiver import until
from tests.support.webhooks import delivering

README = (ROOT / "README.md").read_text()
EVENTS = (ROOT / "docs" / "events.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()
WEBHOOKS = (ROOT / "docs" / "webhooks.md").read_text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's examples use curl")
async def test_readme_commands_place_and_show_an_order(orderly: Running) -> None:
    place, read = (block for block in shell_blocks(README) if "curl" in block)
    placed = await shell(orderly, place)
    assert "201 Created" in placed
    order_id = re.search(r"/v1/orders/(ord_\S+)", placed)
    assert order_id is not None
    await orderly.http.get(f"/v1/orders/{order_id[1]}", params={"min_version": 3})

    listed, history, past = (line for line in read.splitlines() if line.startswith("curl"))
    assert order_id[1] in await shell(orderly, listed)
    assert "order-placed" in await shell(orderly, history.replace("ORDER_ID", order_id[1]))
    assert '"status":"draft"' in await shell(orderly, past.replace("ORDER_ID", order_id[1]))
    assert "idempotent-replayed: true" in (await shell(orderly, place)).lower()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl")
async def test_event_commands_return_what_the_page_says(orderly: Running) -> None:
    basket = {"customer_id": "900", "currency": "USD", "lines": [BAGELS], "place": True}
    placed_at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    placed = (await orderly.http.post("/v1/orders", json=basket)).json()
    await orderly.http.get(f"/v1/orders/{placed['order_id']}", params={"min_version": 3})

    first, next_page, chosen, later, live, digest, channels, schemas = shell_blocks(EVENTS)
    page = json.loads(await shell(orderly, first))
    assert [item["sequence"] for item in page["items"]][:1] == ["0000000001"]
    following = json.loads(await shell(orderly, next_page.replace("NEXT", page["next"])))["items"]
    assert len(following) > 0
    assert following[0]["id"] not in [item["id"] for item in page["items"]]
    types = {item["type"] for item in json.loads(await shell(orderly, chosen))["items"]}
    assert "orderly.order.order-placed.v1" in types
    assert types <= {f"orderly.order.order-{what}.v1" for what in ("placed", "cancelled")}
    at_the_instant = later.replace("2026-03-02T09:30:00Z", placed_at)
    # On the same server, orders of other tests go on.
    begun = json.loads(await shell(orderly, at_the_instant.replace("limit=2", "limit=1000")))
    published = [(item["subject"], item["sequence"]) for item in begun["items"]]
    assert (placed["order_id"], "0000000001") in published
    assert len(json.loads(await shell(orderly, at_the_instant))["items"]) == 2
    assert "event: orderly.order.order-placed.v1\n" in await shell(orderly, live)
    definition, _ = python_blocks(EVENTS)
    digests = ModuleType("digests")
    exec(definition, digests.__dict__)
    held, end = await read_on(orderly.http, type="order-placed")
    proof = json.loads(await shell(orderly, digest.replace("?", f"?until={end}&")))
    assert json.loads(await shell(orderly, digest))["count"] >= proof["count"]
    assert digests.__dict__["digest"]({event["id"] for event in held}) == proof["digest"]
    document, page_to_read = channels.splitlines()
    assert "nats" in json.loads(await shell(orderly, document))["channels"]
    assert "<h3>Item added</h3>" in await shell(orderly, page_to_read)
    names, schema = schemas.splitlines()
    assert "orderly.order.item-added.v1" in json.loads(await shell(orderly, names))["items"]
    assert "unit_price" in json.loads(await shell(orderly, schema))["properties"]


@pytest.mark.skipif(shutil.which("node") is None, reason="the example is JavaScript")
async def test_browser_example_follows_the_stream(orderly: Running) -> None:
    path = await opened(orderly.http)
    await shown(orderly.http, path, 3)
    order_id = path.rpartition("/")[2]
    [example] = re.findall(r"```js\n(.*?)```", EVENTS, re.DOTALL)
    run = f"""
        {example.replace("/v1/events", f"{orderly.http.base_url}/v1/events?from={order_id}@1")}
        await follow(() => "t", (event) => {{
            console.log(event.id);
            if (event.id === "{order_id}@3") process.exit();
        }});
    """
    process = await asyncio.create_subprocess_exec(
        "node", "--input-type=module", "-e", run, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    of_order = [line for line in output.decode().split() if line.startswith(order_id)]
    assert of_order == [f"{order_id}@{version}" for version in (1, 2, 3)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl")
async def test_api_commands_return_what_the_page_says(
    orderly: Running,
) -> None:
    await shown(orderly.http, await opened(orderly.http), 1)  # A list by page needs two orders.
    commands, *others = map(lines_of, shell_blocks(API))
    created = await shell(orderly, commands[0])
    path = re.search(r"location: (\S+)", created, re.IGNORECASE)
    assert path is not None and "201 Created" in created
    order = f"http://127.0.0.1:8080{path[1]}"

    async def output_of(command: str) -> str:
        return await shell(orderly, command.replace("ORDER", order))

    await orderly.http.get(path[1], params={"min_version": 2})
    assert "change-item-quantity" in await output_of(commands[1])
    assert '"item-quantity-changed"' in await output_of(commands[2])
    (several,), (note,), (wait,), (stale,), (queued,), previews, problems, *others = others
    (trace,), reads, *more = others
    previewed, allowed = previews
    malformed, rejected, all_codes, one_code = problems
    assert '"order-placed"' in await output_of(several)
    assert "replayed" not in await output_of(note)
    assert "idempotent-replayed: true" in (await output_of(note)).lower()
    held = await output_of(wait)
    assert "200 OK" in held
    assert "412" in (output := await output_of(stale)) and '"current_version"' in output
    assert '"note-added"' in (output := await output_of(previewed)) and '"steps":[]' in output
    assert '"why_not"' in await output_of(allowed)
    assert "422" in (output := await output_of(malformed)) and '"#/texxt"' in output
    assert '"allowed_commands"' in await output_of(rejected)
    assert "202 Accepted" in (output := await output_of(queued)) and '"state":"pending"' in output
    assert '"no-lines"' in await output_of(all_codes)
    assert '"remedy"' in await output_of(one_code)
    assert "x-request-id: mine-1" in (await output_of(trace)).lower()
    assert "projection-lag-ms" in (await output_of(reads[0])).lower()
    assert "304 Not Modified" in await output_of(reads[1])
    past, words, (chosen, by_total, declined), terms, (saved,), inbox, (feed, live), _ = more
    version, at, history, asked = past
    waiting, transactions, in_words = words
    assert '"version":1' in await output_of(version)
    assert '"order_id"' in await output_of(at)
    assert '"actor":"anonymous"' in await output_of(history)
    assert '"outcome":"events"' in await output_of(asked)
    assert '"answer"' in await output_of(waiting)
    assert "items" in json.loads(await output_of(transactions))
    assert "items" in (feed_in_words := json.loads(await output_of(in_words)))
    assert feed_in_words["items"][0]["sentence"]
    token = json.loads(held.splitlines()[-1])["consistency_token"]
    listed = json.loads(await output_of(chosen.replace("FROM_A_COMMAND", token)))["items"]
    assert order.rpartition("/")[2] in [item["order_id"] for item in listed]
    assert json.loads(await output_of(by_total))["next"]
    for filtered in (declined, *terms):
        assert "items" in json.loads(await output_of(filtered))
    assert "order_id,external_reference," in await output_of(saved)
    assert "groups" in json.loads(await output_of(inbox[0]))
    assert '"order_view"' in await output_of(inbox[1])
    assert '"stuck_orders"' in await output_of(inbox[2])
    assert '"next"' in await output_of(inbox[3])
    assert "orderly.order.order-opened.v1" in await output_of(feed)
    assert "id: " in await output_of(live)


class Listening(ThreadingHTTPServer):
    """A server whose queue holds all connections that a deliverer opens at once."""

    request_queue_size = 128


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl")
async def test_webhook_receiver_and_commands_work(orderly: Running) -> None:
    register, test, reads, changes, again = map(lines_of, shell_blocks(WEBHOOKS))
    (code,) = re.findall(r"```python\n(.*?)```", WEBHOOKS, re.DOTALL)
    receiver = ModuleType("receiver")
    exec(code, receiver.__dict__)
    server = Listening(("127.0.0.1", 0), receiver.__dict__["Receiver"])
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        [command] = register
        url = f"http://127.0.0.1:{server.server_port}/webhooks"
        output = await shell(orderly, command.replace("http://127.0.0.1:9000/webhooks", url))
        endpoint = json.loads(output)
        receiver.__dict__["SECRET"] = endpoint["secret"]

        async def output_of(command: str, **more: str) -> str:
            for name, value in {"ENDPOINT": endpoint["endpoint_id"], **more}.items():
                command = command.replace(name, value)
            return await shell(orderly, command)

        assert '"outcome":"delivered"' in await output_of(test[0])
        async with delivering(orderly.dsn):
            placed = (await opened(orderly.http, place=True)).rpartition("/")[2]
            events: dict[str, dict[str, str]] = receiver.__dict__["events"]
            await until(lambda: any(event["subject"] == placed for event in events.values()))

            async def none_is_parked() -> bool:
                path = f"/v1/webhook-endpoints/{endpoint['endpoint_id']}"
                return not (await orderly.http.get(path)).json()["parked_orders"]

            await until(none_is_parked)
        types = {event["type"] for event in events.values()} - {"orderly.test.v1"}
        assert types <= {"orderly.order.order-placed.v1", "orderly.order.order-cancelled.v1"}
        listed, one, failed = [await output_of(read) for read in reads]
        assert endpoint["endpoint_id"] in listed and '"parked_orders":[]' in one
        # A connection may break on a busy machine; then an attempt failed, and the next did not.
        assert {item["outcome"] for item in json.loads(failed)["items"]} <= {"failed"}
        changed, paused, resumed, rotated = [await output_of(change) for change in changes]
        assert '"description":"the warehouse"' in changed
        assert '"paused"' in paused and '"active"' in resumed and "whsec_" in rotated
        path = f"/v1/webhook-endpoints/{endpoint['endpoint_id']}/deliveries"
        deliveries = (await orderly.http.get(path)).json()["items"]
        [delivery, *_] = [one for one in deliveries if one["event_type"] != "test"]
        replayed, redelivered, deleted = [
            await output_of(command, DELIVERY=delivery["delivery_id"]) for command in again
        ]
        assert "replay_id" in replayed and "replay_id" in redelivered and deleted == ""
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples use curl")
async def test_api_command_with_a_token_requires_it(orderly: Running) -> None:
    (with_token,) = lines_of(shell_blocks(API)[-1])
    async with issuing(ec_key()) as issuer:
        settings = Settings(
            postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, **issuer.settings
        )
        async with run_api(orderly.client, settings) as http:
            guarded = replace(orderly, http=http)
            assert "200 OK" in await shell(guarded, f"TOKEN={issuer.token()}; {with_token}")
            assert "401 Unauthorized" in await shell(guarded, with_token)


def test_docs_name_only_existing_files() -> None:
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir())
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        text = document.read_text()
        linked = [document.parent / m for m in re.findall(r"\]\(((?!http)[^)#]+)\)", text)]
        # A page that adds a file shows its content after its name.
        named = re.findall(rf"`((?:{folders})/[\w./-]+)`(?!:\n\n```)", text)
        missing = [p for p in [*linked, *(ROOT / n for n in named)] if not p.exists()]
        assert missing == [], document


def test_readme_names_every_setting_and_target() -> None:
    assert [name for name in VARIABLES if f"`{name}`" not in README] == []
    targets = re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for_users = [t for t in targets if t not in ("help", "format", "lock")]
    assert [target for target in for_users if f"make {target}" not in README] == []


def test_lifecycle_diagram_matches_the_rules() -> None:
    assert lifecycle.PAGE.read_text() == lifecycle.page(), "run `make docs`"


@pytest.mark.parametrize("orders", [60, pytest.param(1_000, marks=pytest.mark.soak)])
def test_lifecycle_diagram_has_every_transition_of_random_orders(orders: int) -> None:
    transitions = set[tuple[str, str, str]]()
    for number in range(orders):
        order = RandomOrder()
        order.start(Random(number))
        for move in range(80):
            order.move(Random(f"{number}, {move}"))
        order.finish()
        transitions |= {
            (transition[0], transition[2], lifecycle.label(transition[1]))
            for transition in order.transitions
        }
    drawn = {
        (before, after, cause)
        for before, after, causes in re.findall(
            r"(\w+) --> (\w+): (.*)", lifecycle.PAGE.read_text()
        )
        for cause in causes.split(", ")
    }
    assert transitions - drawn == {("new", "draft", "open-order")}


def shell_blocks(text: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def lines_of(block: str) -> list[str]:
    """The commands of a block, each of which begins with curl."""
    return re.findall(r"^curl .*?(?=^curl |\Z)", block, re.DOTALL | re.MULTILINE)


async def test_projection_of_the_read_side_page_is_complete(pool: asyncpg.Pool, dsn: str) -> None:
    page = (ROOT / "docs" / "read-side.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    customer_orders = ModuleType("customer_orders")
    exec(code, customer_orders.__dict__)
    added: Projection = customer_orders.PROJECTION
    projections = (*PROJECTIONS, added)
    assert await migrate(dsn, projections) == ["projection customer_orders"]

    for _ in range(3):
        await publish(pool, new_order_id(), 1, OPENED, BAGELS_ADDED, OrderPlaced(total=90))
    await publish(pool, new_order_id(), 1, OPENED, BAGELS_ADDED)
    async with run_projector(dsn, projections), asyncio.timeout(60):
        while await customer_orders.placed_by(pool, OPENED.customer_id) < 3:
            await asyncio.sleep(0.05)
    await rebuild.rebuild(dsn, added)
    assert await customer_orders.placed_by(pool, OPENED.customer_id) == 3
    assert await customer_orders.placed_by(pool, "nobody") == 0
    assert await parking.parked_orders(pool) == []


def test_read_side_page_names_every_projection() -> None:
    page = (ROOT / "docs" / "read-side.md").read_text()
    assert [p.name for p in PROJECTIONS if f"| `{p.name}` |" not in page] == []


async def shell(orderly: Running, command: str) -> str:
    """Runs a command as typed, against the API of the tests."""
    command = command.replace("http://127.0.0.1:8080", str(orderly.http.base_url).rstrip("/"))
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()
