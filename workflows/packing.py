"""Compresses models into text, for a snapshot."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter


def pack(shape: TypeAdapter[Any], models: Sequence[Any]) -> str:
    """Base64 of the compressed JSON of models."""
    return base64.b64encode(zlib.compress(shape.dump_json(list(models)))).decode()


def unpack(shape: TypeAdapter[Any], text: str) -> list[Any]:
    """The models in a packed text; none in an empty one."""
    if not text:
        return []
    models: list[Any] = shape.validate_json(zlib.decompress(base64.b64decode(text)))
    return models
