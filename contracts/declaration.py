"""contracts/release.toml: what a release declares to change on purpose."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from field_errors import first_fault
from orders.models import StrictModel

FILE = "contracts/release.toml"
PERMITS = ("rewrites", "state", "commands")
"""Entries that open orders can bear only if they stay in the version in which they began."""


class DeclarationError(Exception):
    """A declaration that cannot be read; a sentence says why."""


class Declaration(StrictModel):
    """What a release declares, each with its reason."""

    rewrites: str | None = None
    state: str | None = None
    commands: str | None = None
    workers: Literal["versioned"] | None = None
    migrations: dict[str, str] = Field(default_factory=dict)
    """By file, why what it locks, drops or changes does no harm."""

    def permits(self, entry: str | None, migration: str | None = None) -> bool:
        """Whether it has an entry, or one for a migration."""
        if migration is not None:
            return bool(self.migrations.get(migration))
        return entry is not None and bool(getattr(self, entry))

    def faults(self, before: Declaration) -> Iterator[str]:
        """What is wrong with it; `before` is that of the version before."""
        declared = [name for name in PERMITS if getattr(self, name)]
        if declared and self.workers != "versioned":
            yield (
                f"{FILE} declares `{declared[0]}`, which open orders bear only if they stay in the"
                ' version in which they began: declare `workers = "versioned"`, and deploy so.'
            )
        kept = [name for name in declared if getattr(self, name) == getattr(before, name)]
        kept += sorted(file for file, _ in self.migrations.items() & before.migrations.items())
        for name in kept:
            yield f"{FILE} declares `{name}` as the version before did: remove it, or renew it."


def read_declaration(checkout: Path) -> Declaration:
    """That of a checkout, an empty one if it has none; raises DeclarationError."""
    file = checkout / FILE
    try:
        return Declaration.model_validate(tomllib.loads(file.read_text()))
    except FileNotFoundError:
        return Declaration()
    except OSError as error:
        raise DeclarationError(f"{file} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeclarationError(f"{file} is not TOML: {error}.") from None
    except ValidationError as error:
        raise DeclarationError(f"{file}: {first_fault(error)}.") from None
