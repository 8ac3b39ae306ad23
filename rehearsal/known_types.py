"""The types of events and commands that rules have."""

from __future__ import annotations

import json
from typing import NamedTuple

from orders.commands import COMMAND_TYPES, type_of
from orders.events import BY_TAG


class KnownTypes(NamedTuple):
    """Types by their names in JSON, such as "order-placed"."""

    events: frozenset[str]
    commands: frozenset[str]

    def to_json(self) -> str:
        return json.dumps([sorted(each) for each in self])

    def with_those_in(self, line: str | bytes) -> KnownTypes:
        """These, and those of the other rules that wrote `line` by `to_json`."""
        events, commands = json.loads(line)
        return KnownTypes(self.events | {*events}, self.commands | {*commands})


def known_types() -> KnownTypes:
    """Those of the rules that are imported."""
    return KnownTypes(frozenset(BY_TAG), frozenset(map(type_of, COMMAND_TYPES)))
