"""Times in requests."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime, BeforeValidator


def _rfc_3339(value: object) -> object:
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d", value):
        raise ValueError("must be written as in RFC 3339: 2017-01-01, or 2017-01-01T11:53:26Z")
    return value  # Pydantic would take a bare number for seconds since 1970.


_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def _in_utc(instant: datetime) -> datetime:
    """The instant in UTC; beyond the calendar, its edge: some clients write "no bound" so."""
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        return _FIRST if instant.year == 1 else _LAST


Instant = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_in_utc)]
Day = Annotated[date, BeforeValidator(_rfc_3339)]

TIMEZONE = "`timezone=Europe/Berlin`: write the times in sentences in this zone, instead of in UTC."


def zone_of(prefer: str | None) -> tzinfo:
    """The zone of `Prefer: timezone=Europe/Berlin` (RFC 7240); UTC without one that is known."""
    match = re.search(r'(?:^|[,;\s])timezone="?([\w+/-]{1,64})', prefer or "", re.ASCII)
    if match is None:
        return UTC
    try:
        return ZoneInfo(match[1])
    except (KeyError, ValueError, OSError):  # No such file, or a path that leads elsewhere.
        return UTC
