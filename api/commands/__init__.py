"""Routes that accept commands, synchronous and asynchronous, and report their status."""
