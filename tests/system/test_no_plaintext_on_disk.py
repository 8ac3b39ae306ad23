"""No file of a whole stack contains personal data in plaintext, in any usual encoding."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from temporalio.client import Client

from dev.stack import Stack, StackOptions
from eventlog.postgres import connect
from tests.support.api_requests import BASKET, PatientClient, shown
from tests.support.personal_data import (
    ERASED,
    FORGED,
    NO_CARRIER_GOES_THERE,
    SET_SHIPPING,
    erase,
    new_customer,
    whole,
)
from tests.support.servers import run_replayed_stack


@dataclass
class Planted:
    """Addresses, each part of which contains one of two random markers."""

    text: str = field(default_factory=lambda: f"marker{secrets.token_hex(6)}")
    digits: str = field(default_factory=lambda: str(10**14 + secrets.randbelow(9 * 10**14)))
    count: int = 0

    @property
    def markers(self) -> list[str]:
        return [self.text, self.digits]

    def address(self, **changes: Any) -> dict[str, Any]:
        self.count += 1
        parts = {
            "name": f"name-{self.text}-{self.count}",
            "line1": f"street-{self.text}",
            "email": f"{self.text}@example.org",
            "phone": f"+{self.digits}",
        }
        return {**parts, "postal_code": "1234", "city": "Delft", "country": "NL", **changes}


def encodings_of(text: str) -> set[bytes]:
    """The bytes of `text` in plaintext, UTF-16, hex, and inside base64."""
    plain = text.encode()
    encodings = {plain, plain.hex().encode(), text.encode("utf-16-le")}
    for encoded in (b64encode, urlsafe_b64encode):
        for before in range(3):
            # The characters at both ends also encode the bytes before and after the text.
            first = (0, 2, 3)[before]
            last = (before + len(plain)) // 3 * 4
            encodings.add(encoded(bytes(before) + plain)[first:last])
    return encodings


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_text_is_found_inside_base64(before: str) -> None:
    inside = b64encode(f"{before}name-0123456789abcdef and more".encode())
    assert [encoding for encoding in encodings_of("name-0123456789abcdef") if encoding in inside]


async def test_no_personal_data_is_in_plaintext_before_or_after_erasure(tmp_path: Path) -> None:
    options = StackOptions(tmp_path / "data", api_port=0, temporal_port=0, ui_port=0)
    async with (
        run_replayed_stack(options) as stack,
        PatientClient(base_url=stack.api_url, timeout=60) as http,
    ):
        customer, planted = new_customer(), Planted()
        path = await send_in_every_way(http, customer, planted)
        assert planted.count > 10
        await http.post(f"{path}/commands/place-order")
        await until(http, path, lambda order: all(s["tracking"] for s in order["shipments"]))
        unreachable_address = planted.address(postal_code=NO_CARRIER_GOES_THERE)
        stuck = await placed_for(http, customer, unreachable_address)
        await until(http, stuck, lambda order: order["needs_attention"])
        await assert_sealed_everywhere(stack, options.data_dir, customer, planted.markers)

        assert await erase(http, customer) == 1
        assert (await shown(http, path, 8))["shipping_address"] == ERASED
        # The order shows that its customer is erased, so nothing can be shipped.
        await http.post(f"{stuck}/commands/retry-step")
        await until(http, stuck, lambda order: "erased" in str(order["needs_attention"]))
        await assert_sealed_everywhere(stack, options.data_dir, customer, planted.markers)


async def placed_for(http: httpx.AsyncClient, customer: str, address: dict[str, Any]) -> str:
    body = {**BASKET, "customer_id": customer, "shipping_address": address, "place": True}
    path: str = (await http.post("/v1/orders", json=body)).headers["Location"]
    return path


async def until(
    http: httpx.AsyncClient, path: str, condition: Callable[[dict[str, Any]], Any]
) -> None:
    """Waits until a confirmed order meets a condition."""
    async with asyncio.timeout(60):
        while True:
            order = (await http.get(path)).json()
            if order.get("status") == "confirmed" and condition(order):
                return
            await asyncio.sleep(0.1)


async def send_in_every_way(http: httpx.AsyncClient, customer: str, planted: Planted) -> str:
    """Sends accepted, rejected and malformed addresses, and reads; returns the order's path."""
    first = planted.address()
    body = {**BASKET, "customer_id": customer, "shipping_address": first}
    key = {"Idempotency-Key": secrets.token_hex(8)}
    opened = await http.post(
        "/v1/orders", json={**body, "billing_address": planted.address()}, headers=key
    )
    assert opened.status_code == 201, opened.text
    path: str = opened.headers["Location"]
    several = [
        {"type": "set-billing-address", "address": planted.address()},
        {"type": "set-shipping-address", "address": planted.address()},
    ]
    last = planted.address()
    for route, sent in (("commands", {"commands": several}), (SET_SHIPPING, {"address": last})):
        accepted = await http.post(f"{path}/{route}", json=sent)
        assert accepted.status_code == 200, accepted.text

    malformed = planted.address(country="nowhere")
    broken_json = f'{{"shipping_address": {json.dumps(planted.address())}'
    responses = [
        await http.post("/v1/orders", json={**body, "shipping_address": planted.address()}),
        await http.post("/v1/orders", json=body, headers=key),
        await http.post("/v1/orders", json={**body, "shipping_address": malformed}),
        await http.post("/v1/orders", json={**body, "shipping_address": [planted.address()]}),
        await http.post(
            "/v1/orders", content=broken_json, headers={"Content-Type": "application/json"}
        ),
        await http.post("/v1/orders/ord_x/" + SET_SHIPPING, json={"address": planted.address()}),
        await http.post(f"{path}/{SET_SHIPPING}", json={"address": [FORGED, planted.address()]}),
        await http.post(
            f"{path}/{SET_SHIPPING}", json={"address": last}, headers={"If-Match": '"1"'}
        ),
    ]
    codes = [response.status_code for response in responses]
    assert codes == [201, 422, 422, 422, 422, 404, 422, 412]

    assert (await shown(http, path, 8))["shipping_address"] == whole(last)
    listed = await http.get("/v1/orders", params={"customer_id": customer})
    assert first["name"] not in listed.text and last["name"] in listed.text
    assert first["name"] in (await http.get(f"{path}/history")).text
    return path


async def assert_sealed_everywhere(
    stack: Stack, data_dir: Path, customer: str, markers: list[str]
) -> None:
    """No marker is in any file; the customer id is found, which proves the search."""
    connection = await connect(stack.postgres_dsn)
    try:
        await connection.execute("CHECKPOINT")  # Writes the buffers to the files.
        tables = await every_table(connection)
        orders = await connection.fetch("SELECT order_id FROM order_view.orders")
    finally:
        await connection.close()
    places = {
        **tables,
        **await every_history(stack, [order["order_id"] for order in orders]),
        **every_file(data_dir),
    }
    assert {
        f"logs/{name}.log" for name in ("api", "worker", "temporal", "simulators")
    } < places.keys()
    # The customer id is stored in plaintext in all of these.
    found_in = {place for place, content in places.items() if is_in(content, [customer])}
    assert {"public.order_events", "order_view.orders", "public.customer_keys"} < found_in
    for part in ("history of ord_", "temporal.db", "postgres/base/", "postgres/pg_wal/"):
        assert any(place.startswith(part) for place in found_in), (part, sorted(found_in))
    assert [place for place, content in places.items() if is_in(content, markers)] == []


def is_in(content: bytes, texts: Iterable[str]) -> bool:
    return any(encoding in content for text in texts for encoding in encodings_of(text))


def every_file(folder: Path) -> dict[str, bytes]:
    """The content of each file, but of those that a running process removes meanwhile."""
    files = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                files[str(path.relative_to(folder))] = path.read_bytes()
    return files


async def every_table(connection: asyncpg.Connection) -> dict[str, bytes]:
    """All rows of all tables in text format."""
    names = await connection.fetch(
        "SELECT schemaname, tablename FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    tables = {}
    for schema, name in names:
        rows = io.BytesIO()
        await connection.copy_from_table(name, schema_name=schema, output=rows)
        tables[f"{schema}.{name}"] = rows.getvalue()
    return tables


async def every_history(stack: Stack, order_ids: list[str]) -> dict[str, bytes]:
    """The Temporal history of each order."""
    client = await Client.connect(stack.temporal_address)
    return {
        f"history of {order_id}": (
            (await client.get_workflow_handle(order_id).fetch_history()).to_json().encode()
        )
        for order_id in order_ids
    }
