"""Named lives of an order, played against a running stack so that a person can watch them."""
