"""The one way to Temporal."""
