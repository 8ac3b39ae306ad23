"""Publishes every event of the log to a message broker."""
