"""The HTTP API: intent in, read models out."""
