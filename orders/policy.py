"""How long an order waits for what: fixed when it is opened, so that later settings change none."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from orders.models import StoredModel

DAY = 24 * 60 * 60
Seconds = Annotated[int, Field(gt=0, le=3650 * DAY)]


class Policy(StoredModel):
    """The deadlines of one order, in seconds from what starts them."""

    draft: Seconds = 7 * DAY
    """From opening: a draft that is not placed by then expires."""
    payment_retry: Seconds = DAY
    """From a decline: without another method by then, what has not left is cancelled."""
    shortfall_answer: Seconds = DAY
    """From a shortfall: without a decision by then, the same."""
    capture: Seconds = 6 * DAY
    """From an authorisation: what is authorised is captured then, before it ends."""
    return_window: Seconds = 30 * DAY
    """From the last delivery: the order is completed then."""
