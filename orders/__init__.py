"""The domain: commands, events and rules of orders. Pure, and imports no other part."""
