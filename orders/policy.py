"""The deadlines of an order, fixed when it is opened: later settings change none."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orders.models import StoredModel

DAY = 24 * 60 * 60
Seconds = Annotated[int, Field(gt=0, le=3650 * DAY)]


class Policy(StoredModel):
    """How long an order waits, in seconds from the event that starts each deadline."""

    draft: Seconds = 7 * DAY
    """From opening; then the draft expires."""
    payment_retry: Seconds = DAY
    """From a declined payment; then the pieces that have not left are cancelled."""
    shortfall_answer: Seconds = DAY
    """From a shortfall; then the pieces that have not left are cancelled."""
    capture: Seconds = 6 * DAY
    """From an authorisation; then it is captured, before it ends."""
    return_window: Seconds = 30 * DAY
    """From the last delivery; then the order is completed."""
