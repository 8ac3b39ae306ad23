"""The headers of a command: idempotency key, expected version, and how long to wait."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header
from pydantic import WithJsonSchema

from api.context import wait_seconds
from api.problems.problem import malformed_header

KEY_CHARACTERS_MAX = 255
ETAGS_MAX = 20
_ETAG = '(W/)?"[0-9]{1,9}"'
_IF_MATCH = rf"^(\*|{_ETAG}(, *{_ETAG}){{0,{ETAGS_MAX - 1}}})$"


@dataclass(frozen=True)
class CommandOptions:
    """How the caller wants a command executed, as its headers say."""

    key: str
    """The idempotency key, or a random one if the caller sent none."""
    expected_versions: list[int] | None
    wait_seconds: float
    respond_async: bool
    """Whether to answer 202 as soon as the command is durable."""


async def command_options(
    idempotency_key: Annotated[
        str | None,
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": KEY_CHARACTERS_MAX}),
        Header(description="Your unique name for this request. Repeated, it is executed once."),
    ] = None,
    if_match: Annotated[
        str | None,
        WithJsonSchema({"type": "string", "pattern": _IF_MATCH}),
        Header(
            description='ETag of the version you decided on, such as `"5"`; if it has changed: 412'
        ),
    ] = None,
    prefer: Annotated[
        str | None,
        Header(
            description="`wait=N`: seconds to wait for the result; `respond-async`: do not wait."
        ),
    ] = None,
) -> CommandOptions:
    """Reads the headers of a command; raises a Problem that names the header to change."""
    return CommandOptions(
        key=_key(idempotency_key),
        expected_versions=_versions(if_match),
        wait_seconds=wait_seconds(prefer),
        respond_async=re.search(r"(?:^|[,;\s])respond-async(?![\w=-])", prefer or "") is not None,
    )


def _key(header: str | None) -> str:
    if header is None:
        return secrets.token_urlsafe(16)
    key = header[1:-1] if re.fullmatch(r'".*"', header) else header
    if not 0 < len(key) <= KEY_CHARACTERS_MAX:
        detail = f"must have between 1 and {KEY_CHARACTERS_MAX} characters"
        raise malformed_header("Idempotency-Key", detail)
    return key


def _versions(if_match: str | None) -> list[int] | None:
    """The versions that the caller expects; None: any.

    Weak ETags count as strong ones: proxies weaken them when they compress, and a version stands
    for exactly one state.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    tags = [re.fullmatch(r'(?:W/)?"(\d{1,9})"', tag.strip()) for tag in if_match.split(",")]
    if len(tags) > ETAGS_MAX or not all(tags):
        detail = f'must be * or up to {ETAGS_MAX} ETags of the order, such as "5"'
        raise malformed_header("If-Match", detail)
    return [int(tag[1]) for tag in tags if tag]


CommandOptionsDep = Annotated[CommandOptions, Depends(command_options)]
