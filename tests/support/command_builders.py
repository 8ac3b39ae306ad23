"""Command messages as the API makes them, to orders of one test alone."""

from __future__ import annotations

import secrets

from api.context import short_hash
from api.gateway.command_message import CommandMessage
from orders.commands import AddItemToOrder, OpenOrder, OrderCommand, PlaceOrder
from orders.policy import Policy
from orders.steps import StepResult
from workflows.messages import CommandBatch

OPENING = OpenOrder(customer_id="900", currency="USD")
TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-00"


def new_order_id() -> str:
    return f"ord_{secrets.token_urlsafe(12)}"


def opening(order_id: str, *more: OrderCommand, key: str = "open") -> CommandMessage:
    """A message that opens an order, with more commands in the same batch."""
    return message(order_id, OPENING, *more, key=key, creates_order=True)


def placing(order_id: str) -> CommandMessage:
    """A message that opens an order and places it; it has a policy, so that its steps run."""
    opening = OpenOrder(customer_id="900", currency="USD", policy=Policy())
    return message(order_id, opening, bagels(), PlaceOrder(), creates_order=True)


def bagels() -> AddItemToOrder:
    """An item of 50 cents; its line id is generated from the command id."""
    return AddItemToOrder(sku="1095275", title="ROLLS: BAGELS", quantity=1, unit_price=50)


def message(
    order_id: str,
    *commands: OrderCommand | StepResult,
    key: str | None = None,
    expected_versions: list[int] | None = None,
    creates_order: bool = False,
) -> CommandMessage:
    """A message; the same key and commands make the same one, with another attempt id."""
    command_id = short_hash("anonymous", key or secrets.token_hex(8))
    return CommandMessage(
        order_id=order_id,
        command_id=command_id,
        creates_order=creates_order,
        batch=CommandBatch(
            commands=[
                c.with_generated_ids(short_hash(command_id, str(i)))
                if isinstance(c, OrderCommand)
                else c
                for i, c in enumerate(commands)
            ],
            expected_versions=expected_versions,
            actor="anonymous",
            payload_hash=short_hash(*(c.model_dump_json() for c in commands)),
            attempt_id=secrets.token_urlsafe(9),
            traceparent=TRACEPARENT,
        ),
    )
