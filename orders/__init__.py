"""The domain of an order: values, commands, events and rules. Pure, and imports nothing of ours."""
