"""The headers of a command: idempotency key, expected version, and how long to wait."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import tzinfo
from typing import Annotated

from fastapi import Depends, Header
from pydantic import WithJsonSchema

from api.context import wait_seconds
from api.if_match import IF_MATCH, expected_versions_of
from api.problems.problem import malformed_header
from api.times import TIMEZONE, zone_of

KEY_CHARACTERS_MAX = 255


@dataclass(frozen=True)
class CommandOptions:
    """How the caller wants a command executed, as its headers say."""

    key: str
    """The idempotency key, or a random one if the caller sent none."""
    expected_versions: list[int] | None
    wait_seconds: float
    respond_async: bool
    """Whether to answer 202 as soon as the command is durable."""
    zone: tzinfo
    """Of the times in sentences."""


async def command_options(
    idempotency_key: Annotated[
        str | None,
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": KEY_CHARACTERS_MAX}),
        Header(description="Your unique name for this request. Repeated, it is executed once."),
    ] = None,
    if_match: Annotated[
        str | None,
        WithJsonSchema({"type": "string", "pattern": IF_MATCH}),
        Header(
            description='ETag of the version you decided on, such as `"5"`; if it has changed: 412'
        ),
    ] = None,
    prefer: Annotated[
        str | None,
        Header(
            description="`wait=N`: seconds to wait for the result; `respond-async`: do not wait;"
            f" of a preview, {TIMEZONE}"
        ),
    ] = None,
) -> CommandOptions:
    """Reads the headers of a command; raises a Problem that names the header to change."""
    return CommandOptions(
        key=_key(idempotency_key),
        expected_versions=expected_versions_of(if_match),
        wait_seconds=wait_seconds(prefer),
        respond_async=re.search(r"(?:^|[,;\s])respond-async(?![\w=-])", prefer or "") is not None,
        zone=zone_of(prefer),
    )


def _key(header: str | None) -> str:
    if header is None:
        return secrets.token_urlsafe(16)
    key = header[1:-1] if re.fullmatch(r'".*"', header) else header
    if not 0 < len(key) <= KEY_CHARACTERS_MAX:
        detail = f"must have between 1 and {KEY_CHARACTERS_MAX} characters"
        raise malformed_header("Idempotency-Key", detail)
    return key


CommandOptionsDep = Annotated[CommandOptions, Depends(command_options)]
