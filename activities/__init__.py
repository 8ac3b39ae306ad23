"""What the order does to the outside world: one file for each party on the other side."""
