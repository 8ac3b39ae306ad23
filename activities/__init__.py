"""The activities of an order: one module for the event log, and one for each service."""
