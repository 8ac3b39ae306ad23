"""Routes that serve the read models."""
