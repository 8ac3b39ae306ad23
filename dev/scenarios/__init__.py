"""Named scenarios of an order, played against a running stack and printed event by event."""
