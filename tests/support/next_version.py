"""The next version of orderly: a copy of this one, changed as a company would change it.

It has a new command with its event and a field of the order, a new field of an old command, and the
second version of an event. `RENAMED` and `RENAMED_RESULTS` change the shape of the state instead.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT


class Edit(NamedTuple):
    """Text to put into a file in place of other text, which occurs in it once."""

    file: str
    old: str
    new: str


NEW_COMMAND = (
    Edit(
        "orders/commands.py",
        "class AddNote(OrderCommand):",
        '''class SetGiftMessage(OrderCommand):
    """Set the message that goes with the goods."""

    allowed_in = frozenset(Status) - {Status.NEW}

    type: Literal["set-gift-message"] = "set-gift-message"
    text: Text


class AddNote(OrderCommand):''',
    ),
    Edit(
        "orders/events.py",
        "class NoteAdded(OrderEvent):",
        """class GiftMessageSet(OrderEvent):
    type: Literal["gift-message-set"] = "gift-message-set"
    text: str


class NoteAdded(OrderEvent):""",
    ),
    Edit(
        "orders/order.py",
        "    shipping_charge: int = 0\n",
        "    shipping_charge: int = 0\n    gift_message: str | None = None\n",
    ),
    Edit(
        "orders/evolve.py",
        "        case e.NoteAdded(note_id=key, text=text):",
        """        case e.GiftMessageSet(text=text):
            return evolve_fields(order, gift_message=text)
        case e.NoteAdded(note_id=key, text=text):""",
    ),
    Edit(
        "orders/rules/draft.py",
        "        case c.AddNote(note_id=note_id, text=text):",
        """        case c.SetGiftMessage(text=text):
            return [e.GiftMessageSet(text=text)]
        case c.AddNote(note_id=note_id, text=text):""",
    ),
    Edit(
        "orders/rules/no_op.py",
        "        case c.AddNote(note_id=key, text=text):",
        """        case c.SetGiftMessage(text=text):
            return order.gift_message == text
        case c.AddNote(note_id=key, text=text):""",
    ),
)
NEW_FIELD = (
    Edit(
        "orders/commands.py",
        '    type: Literal["add-item-to-order"] = "add-item-to-order"\n',
        '    type: Literal["add-item-to-order"] = "add-item-to-order"\n    gift: bool = False\n',
    ),
    Edit(
        "api/commands/bodies.py",
        "    line_id: NewId = UNASSIGNED\n    sku: LongName\n",
        "    gift: bool = False\n    line_id: NewId = UNASSIGNED\n    sku: LongName\n",
    ),
)
NEW_EVENT_VERSION = (
    Edit(
        "orders/events.py",
        '    type: Literal["note-added"] = "note-added"\n    note_id: str\n',
        "    schema_version: ClassVar[int] = 2\n"
        '    type: Literal["note-added"] = "note-added"\n    language: str\n    note_id: str\n',
    ),
    Edit(
        "orders/upcasting.py",
        "UPCASTERS: dict[tuple[str, int], Upcaster] = {}",
        'UPCASTERS: dict[tuple[str, int], Upcaster] = {\n    ("note-added", 1): '
        'lambda data: {**data, "language": "en"}\n}',
    ),
    Edit(
        "orders/rules/draft.py",
        "e.NoteAdded(note_id=note_id, text=text)",
        'e.NoteAdded(note_id=note_id, text=text, language="en")',
    ),
)
NEW_READ_MODEL = (
    Edit(
        "readside/order_view/projection.py",
        'name="order_view", version=',
        'name="order_view", version=1',
    ),
)
NEXT_VERSION = NEW_COMMAND + NEW_FIELD + NEW_EVENT_VERSION

# Another shape of the state: fields of an order, of its parts, and of the snapshot.
RENAMED = {
    "goodwill": "courtesy",
    "removed_discounts": "former_discounts",
    "needs_rebooking": "is_outdated",
}
RENAMED_RESULTS = (
    Edit(
        "workflows/snapshot.py",
        "    results: list[ResultChunk] =",
        "    answers: list[ResultChunk] =",
    ),
    Edit("workflows/snapshot.py", "StoredResults(self.results)", "StoredResults(self.answers)"),
    Edit("workflows/order.py", "results=results.chunks", "answers=results.chunks"),
)


def make_copy(folder: Path, edits: Sequence[Edit] = NEXT_VERSION) -> Path:
    """Copies the code into a folder, and changes it there."""
    copy = folder / "next"
    ignored = shutil.ignore_patterns(".*", "tests", "docs", "__pycache__", "*.jsonl")
    shutil.copytree(ROOT, copy, ignore=ignored)
    for edit in edits:
        apply(edit, copy)
    return copy


def apply(edit: Edit, root: Path) -> None:
    """Makes an edit in a copy; fails if the code has changed so that it no longer fits.

    In place of no text, it makes a new file.
    """
    file = root / edit.file
    if not edit.old:
        assert not file.exists(), f"{edit.file} exists"
        file.write_text(edit.new)
        return
    text = file.read_text()
    assert text.count(edit.old) == 1, f"{edit.file} has no single {edit.old!r}"
    file.write_text(text.replace(edit.old, edit.new))


def rename(root: Path, names: dict[str, str]) -> None:
    """Renames identifiers in all Python files of a copy."""
    pattern = re.compile(rf"\b({'|'.join(names)})\b")
    for file in root.rglob("*.py"):
        file.write_text(pattern.sub(lambda found: names[found[0]], file.read_text()))
