"""Pictures of the console, taken in a real browser: `make pictures`."""
