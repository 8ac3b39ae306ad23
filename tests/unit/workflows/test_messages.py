"""How command batches are named in the Temporal Web UI."""

from __future__ import annotations

from orders.commands import (
    COMMAND_TYPES,
    AddNote,
    CancelOrder,
    HoldOrder,
    OpenOrder,
    OrderCommand,
    PlaceOrder,
    type_of,
)
from orders.steps import StepDone, StepResult
from tests.support.command_builders import OPENING, bagels
from workflows.continuation import HISTORY_BOUNDS
from workflows.messages import COMMANDS_MAX, TYPES_NAMED_MAX, CommandBatch, QueuedCommands
from workflows.snapshot import WorkflowInput


def batch_of(*commands: OrderCommand | StepResult) -> CommandBatch:
    return CommandBatch(commands=[*commands], actor="x", payload_hash="h", attempt_id="a")


def test_single_command_gives_its_batch_its_name() -> None:
    assert batch_of(PlaceOrder()).name == "place-order"
    assert batch_of(StepDone(step_id="void-1")).name == "step-done"


def test_batch_is_named_by_its_command_types_and_how_often_each_occurs() -> None:
    items = [bagels()] * 12
    assert batch_of(*items, PlaceOrder()).name == "add-item-to-order ×12, place-order"
    assert batch_of(bagels(), PlaceOrder(), bagels()).name == "add-item-to-order ×2, place-order"


def test_batch_name_counts_the_commands_that_it_has_no_room_for() -> None:
    many = batch_of(OPENING, bagels(), PlaceOrder(), HoldOrder(), HoldOrder(), CancelOrder())
    assert many.name == "open-order, add-item-to-order, place-order +3"


def test_batch_name_is_short_and_holds_nothing_that_a_caller_wrote() -> None:
    secret = "leave it with Mrs Miller"
    assert batch_of(AddNote(text=secret), CancelOrder(reason=secret)).name == (
        "add-note, cancel-order"
    )
    longest = max((type_of(command_type) for command_type in COMMAND_TYPES), key=len)
    assert TYPES_NAMED_MAX * len(f"{longest} ×{COMMANDS_MAX}, ") < 150


def test_batch_of_more_commands_than_the_api_accepts_is_read() -> None:
    """A newer version may accept more; a signal that cannot be read would be lost."""
    many = batch_of(*[bagels()] * (COMMANDS_MAX + 1))
    queued = QueuedCommands(command_id="c", batch=many, pointer="#")
    assert QueuedCommands.model_validate_json(queued.model_dump_json()).batch.is_readable


def test_start_input_shows_the_command_that_opens_the_order() -> None:
    opening = OpenOrder(customer_id="900", currency="USD", external_reference="PO-7")
    start = WorkflowInput.of_opening(batch_of(opening, AddNote(text="not shown")))
    assert start.opening == {
        "type": "open-order",
        "customer_id": "900",
        "currency": "USD",
        "external_reference": "PO-7",
    }
    assert start.snapshot is None
    assert start.history_bounds == HISTORY_BOUNDS
