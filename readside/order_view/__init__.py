"""The read model of single orders and order lists."""
