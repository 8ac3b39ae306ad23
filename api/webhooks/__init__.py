"""Inbound webhooks from the payment, stock and shipping services."""
