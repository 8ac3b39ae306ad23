"""The time from which on orders are rehearsed: in any zone, and in UTC without one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer

from cli.rehearse import instant_of


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T12:30:00", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("2026-03-01 12:30:00", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("2026-03-01T12:30:00Z", datetime(2026, 3, 1, 12, 30, tzinfo=UTC)),
        ("2026-03-01T12:30:00.5+02:00", datetime(2026, 3, 1, 10, 30, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_time_is_read_in_its_zone(text: str, instant: datetime) -> None:
    assert (instant_of(text), instant_of(text).tzinfo) == (instant, UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0001-01-01T00:00:00+02:00"])
def test_other_text_is_rejected_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 2026-03-01 or 2026-03-01T12:00:00Z"):
        instant_of(text)
