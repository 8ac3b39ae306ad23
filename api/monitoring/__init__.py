"""Health, metrics and tracing of the API process."""
