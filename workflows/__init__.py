"""The durable shell: one Temporal workflow per order, with no rule of the domain in it."""
