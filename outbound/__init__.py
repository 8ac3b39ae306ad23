"""Events for other systems: as CloudEvents, and delivered to webhook endpoints."""
