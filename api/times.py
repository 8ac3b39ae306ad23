"""Times in requests."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated

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
