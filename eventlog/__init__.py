"""The event log: one append-only table in Postgres that holds every order's published events."""
