"""The two kinds of pydantic model: strict ones for input, tolerant ones for what is stored."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Input. Immutable; an unknown field or a value of another type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class StoredModel(BaseModel):
    """A stored shape. Immutable; ignores fields of newer versions, so that a rollback reads it."""

    model_config = ConfigDict(frozen=True, extra="ignore")
