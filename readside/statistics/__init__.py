"""Read models that count and sum over all orders."""
