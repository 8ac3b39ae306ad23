"""`python -m dev.pictures` takes the pictures of docs/console.md, of a stack of its own."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import Browser, Page

from dev.api_client import ApiClient, Json
from dev.pictures.browser import CHROMIUM, MISSING, chromium
from dev.simulator_client import SimulatorClient
from dev.stack import Stack, StackOptions, run_stack

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
WIDTH, NARROW = 1280, 400
TIMEOUT_S = 60.0

BAGELS = {"line_id": "bagels", "sku": "MILK", "title": "Bagels, 6 pieces"}
CHEESE = {"line_id": "cheese", "sku": "BREAD", "title": "Cheddar 200 g"}
LINES = [{**BAGELS, "quantity": 3, "unit_price": 499}, {**CHEESE, "quantity": 1, "unit_price": 420}]
ADDRESS = {"name": "Ada Lovelace", "line1": "12 St James's Square", "city": "London"}
# The simulated carrier fails for this postal code.
STUCK = {**ADDRESS, "postal_code": "00000", "country": "GB"}


class Scene:
    """Places orders, and brings each to where a picture shows it."""

    def __init__(self, api: ApiClient, simulators: SimulatorClient) -> None:
        self._api = api
        self._simulators = simulators

    async def place(self, number: int, customer: str, **fields: Any) -> str:
        body = {"customer_id": customer, "currency": "EUR", "place": True, "lines": LINES}
        body |= {"external_reference": f"WEB-{number}", **fields}
        return str((await self._api.open_order(body))["order_id"])

    async def until(self, order_id: str, **fields: Any) -> Json:
        """The order once it is at rest with these fields, or needs attention."""
        return await self._api.wait_until(
            order_id,
            lambda order: (
                (not order["pending"] or bool(order["needs_attention"]))
                and all(order[name] == value for name, value in fields.items())
            ),
            timeout_s=TIMEOUT_S,
        )

    async def deliver(self, order_id: str) -> None:
        order = await self.until(order_id, status="confirmed")
        for action, status in (("leave", "shipped"), ("deliver", "delivered")):
            for shipment in order["shipments"]:
                await self._simulators.move_shipment(order_id, shipment["shipment_id"], action)
            await self.until(order_id, fulfilment_status=status)

    async def play(self) -> dict[str, str]:
        """Orders in each kind of wait; the ids of those that a picture is about."""
        declined = await self.place(1001, "anna", payment_method="pm_declined")
        short = [{**LINES[0], "sku": "SHORT-2-bagels"}]
        missing = await self.place(1002, "bert", lines=short)
        stuck = await self.place(1003, "carl", shipping_address=STUCK)
        await self.place(1004, "dora", shipping_address=STUCK)
        held = await self.place(1005, "gina")
        delivered = await self.place(1006, "hugo")
        await self.until(held, status="confirmed")
        reason = "Fraud check: the address differs from the card's"
        await self._api.command(held, "hold-order", {"reason": reason})
        await self.until(declined, status="awaiting_customer")
        await self.until(missing, status="awaiting_customer")
        await self.deliver(delivered)
        await self.until(stuck, fulfilment_status="none")
        return {"stuck": stuck, "delivered": delivered}


async def take(browser: Browser, base_url: str, ids: dict[str, str]) -> None:
    """Takes all pictures."""
    context = await browser.new_context(base_url=base_url, device_scale_factor=1)
    page = await context.new_page()
    await _take(page, "/", "inbox")
    await _take(page, f"/orders/{ids['stuck']}?version=14", "order")
    await _preview(page, ids["delivered"])
    await _take(page, "/services", "services")
    await _take(page, "/numbers?days=7", "numbers")
    await page.emulate_media(color_scheme="dark")
    await _take(page, "/", "inbox-narrow-dark", width=NARROW)


async def _take(page: Page, path: str, name: str, width: int = WIDTH) -> None:
    await page.set_viewport_size({"width": width, "height": 900})
    await page.goto(f"/console{path}")
    await page.locator(".card").first.wait_for()
    await page.wait_for_timeout(1_000)  # The rest of the page, and the count of the inbox.
    await page.screenshot(path=FOLDER / f"{name}.png")


async def _preview(page: Page, order_id: str) -> None:
    """A refund of 4.20, previewed."""
    await page.goto(f"/console/orders/{order_id}")
    await page.get_by_role("button", name="Refund payment").click()
    await page.get_by_label("Amount").fill("4.20")
    await page.get_by_role("button", name="Preview").click()
    await page.get_by_text("would be refunded").wait_for()
    commands = page.locator("section", has=page.get_by_role("heading", name="Commands"))
    await commands.screenshot(path=FOLDER / "preview.png")


async def main() -> None:
    """Takes all pictures of a new stack."""
    if CHROMIUM is None:
        sys.exit(MISSING)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="orderly-") as folder:
        async with run_stack(StackOptions(Path(folder), 0, 0, 0)) as stack, chromium() as browser:
            await take(browser, stack.api_url, await _play(stack))


async def _play(stack: Stack) -> dict[str, str]:
    async with (
        httpx.AsyncClient(base_url=stack.api_url, timeout=TIMEOUT_S) as api,
        httpx.AsyncClient(base_url=stack.simulators_url, timeout=TIMEOUT_S) as simulators,
    ):
        return await Scene(ApiClient(api), SimulatorClient(simulators)).play()


if __name__ == "__main__":
    asyncio.run(main())
