"""The read model of orders: single ones, lists, and as of a time in the past."""
