"""A client generated from the OpenAPI document works with the real API."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.auth.permissions import OPERATE, READ, WRITE
from contracts import openapi_document as openapi
from settings import Settings
from tests.support.servers import Running, run_api
from tests.support.shop import PREFER_WAIT
from tests.support.token_issuer import ec_key, issuing

NAME = "orderly_client"
WAIT = PREFER_WAIT["Prefer"]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the generated client as an importable package."""
    folder = tmp_path_factory.mktemp("generated")
    config = folder / "config.yml"
    config.write_text("post_hooks: []\n")  # They would only format its code.
    made = subprocess.run(
        [
            Path(sys.executable).with_name("openapi-python-client"),
            *("generate", "--meta", "none", "--fail-on-warning"),
            *("--path", openapi.FILE, "--output-path", folder / NAME, "--config", config),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def part(path: str) -> Any:
    return importlib.import_module(f"{NAME}.{path}")


@pytest.fixture
async def client(orderly: Running, generated: Path) -> AsyncIterator[Any]:
    """The generated client with an operator's token."""
    async with issuing(ec_key()) as issuer:
        settings = Settings(
            postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, **issuer.settings
        )
        async with run_api(orderly.client, settings) as http:
            token = issuer.token(sub="olga", scope=f"{READ} {WRITE} {OPERATE}")
            make = part("client").AuthenticatedClient
            async with make(base_url=str(http.base_url), token=token, timeout=60) as client:
                yield client


async def opened(client: Any, key: str) -> Any:
    """The result of opening a draft; the request is repeated under its key."""
    models, open_order = part("models"), part("api.orders.open_order")
    bagels = models.NewLine(
        line_id="bagels", sku="1095275", title="ROLLS: BAGELS", quantity=2, unit_price=50
    )
    basket = models.NewOrder(customer_id="900", currency="USD", lines=[bagels])
    sent = {"client": client, "body": basket, "idempotency_key": key, "prefer": WAIT}
    result = await open_order.asyncio(**sent)
    assert isinstance(result, models.CommandResult), result
    again = await open_order.asyncio_detailed(**sent)
    assert again.parsed == result and again.headers["Idempotent-Replayed"] == "true"
    return result


async def test_generated_client_opens_places_and_reads_an_order(client: Any) -> None:
    models, draft = part("models"), await opened(client, "generated-1")
    order = {"order_id": draft.order_id, "client": client, "prefer": WAIT}
    note = models.AddNote(text="The bell is broken, knock.")
    batch = models.CommandBatch(commands=[note, models.PlaceOrder(payment_method="pm_card")])
    if_match = f'"{draft.version}"'
    placed = await part("api.orders.send_commands").asyncio(**order, body=batch, if_match=if_match)
    assert isinstance(placed, models.CommandResult), placed
    assert (placed.status, placed.total) == ("placed", 100)

    shown = await part("api.orders.get_order").asyncio(**order, min_version=placed.version)
    assert isinstance(shown, models.Order), shown
    assert [line.sku for line in shown.lines] == ["1095275"]
    assert [note.text for note in shown.notes] == ["The bell is broken, knock."]
    newest = models.Sort.OPENED_AT_DOWN
    listed = await part("api.orders.list_orders").asyncio(client=client, sort=newest)
    assert draft.order_id in [one.order_id for one in listed.items]


async def test_generated_client_gets_typed_results_and_rejections(client: Any) -> None:
    models, draft = part("models"), await opened(client, "generated-2")
    order = {"order_id": draft.order_id, "client": client, "prefer": WAIT}
    change = part("api.lines.change_item_quantity")
    more = models.ChangeItemQuantity(line_id="bagels", quantity=3)
    assert (await change.asyncio(**order, body=more)).total == 150
    cancelled = await part("api.orders.cancel_order").asyncio(**order)
    assert cancelled.status == "cancelled", cancelled

    rejected = await change.asyncio(**order, body=models.ChangeItemQuantity("bagels", 4))
    assert isinstance(rejected, models.ProblemDetails), rejected
    assert (rejected.status, rejected.code) == (409, "not-allowed-now")
    assert rejected.allowed_commands == ["add-note"]
    assert [error.pointer for error in rejected.errors] == ["#"]
    stale = await change.asyncio(**order, body=more, if_match=f'"{draft.version}"')
    assert isinstance(stale, models.ProblemDetails), stale
    assert (stale.status, stale.current_version) == (412, cancelled.version)
