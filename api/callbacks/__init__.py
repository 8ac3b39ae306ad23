"""Signed callbacks from the payment, stock and shipping services."""
