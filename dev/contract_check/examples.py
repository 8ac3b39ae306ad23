"""What a service under test knows: values that its test data treats in a known way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Examples:
    """Values of the service; the defaults are those of the simulators."""

    method: str = "pm_card"
    """A payment method that is approved."""
    declined_method: str = "pm_declined"
    sku: str = "MILK"
    """In stock, at least ten pieces."""
    missing_sku: str = "GONE-1"
    """Of which there is none."""
    location: str = "EAST"
    """A stock location that shipments leave from."""
