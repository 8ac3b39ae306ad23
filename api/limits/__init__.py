"""Rate limits, load shedding, concurrency limits and request-body limits."""
