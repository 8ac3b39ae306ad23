"""`orderly trigger`: a signed callback to the running API, as a service sends it."""

from __future__ import annotations

import asyncio

import pytest

from api.callbacks.payloads import EVENTS
from tests.support.processes import assert_one_sentence, run_inside
from tests.support.servers import Running
from tests.support.shop import MILK, Shop
from tests.support.webhook_signing import new_secret


async def triggered(orderly: Running, secret: str, *arguments: str) -> tuple[int, str, str]:
    ended = await asyncio.to_thread(
        run_inside,
        "trigger",
        *arguments,
        ORDERLY_CALLBACK_URL=f"{str(orderly.http.base_url).rstrip('/')}/v1/callbacks",
        ORDERLY_WEBHOOK_SECRET=secret,
        TEMPORAL_ADDRESS="127.0.0.1:1",  # No stack is looked for.
    )
    return ended.returncode, ended.stdout, ended.stderr


async def test_callback_reaches_the_order(orderly: Running, shop: Shop) -> None:
    order = await shop.place_order(MILK)
    settled = await order.wait_until_settled(status="confirmed")
    chargeback = ("chargeback.opened", order.order_id, "chargeback_id=77", "amount=5", "reason=no")
    code, output, errors = await triggered(orderly, orderly.webhook_secret, *chargeback)
    assert (code, output, errors) == (0, "recorded\n", "")
    changed = await orderly.http.get(
        f"/v1/orders/{order.order_id}", params={"min_version": settled["version"] + 1}
    )
    assert [one["kind"] for one in changed.json()["needs_attention"]] == ["unknown-chargeback"]

    wrong = await triggered(orderly, new_secret(), *chargeback)
    assert wrong[:2] == (1, "")
    assert "The API answered 401: invalid-signature" in wrong[2]
    assert_one_sentence(wrong[2])


def test_events_are_listed_with_their_fields() -> None:
    listed = run_inside("trigger").stdout
    assert all(event in listed for events in EVENTS.values() for event in events)
    assert "authorisation.reduced      ORDER authorisation_id=… amount=… [reason=…]" in listed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("capture.undone", "ord_x"), "There is no event capture.undone"),
        (("capture.done",), "Name the order"),
        (
            ("capture.done", "ord_x"),
            "The field step_id of capture.done is required; write it as step_id=VALUE.",
        ),
        (("capture.done", "ord_x", "step_id"), "write it as NAME=VALUE"),
        (("capture.done", "ord_x", "step_id=s", "amount=-1"), "The field amount"),
    ],
    ids=["event", "order", "missing", "form", "value"],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], said: str) -> None:
    ended = run_inside("trigger", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert_one_sentence(ended.stderr)
