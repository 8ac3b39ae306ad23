"""Rehearsal: what other rules would have decided on the recorded inputs of orders."""
