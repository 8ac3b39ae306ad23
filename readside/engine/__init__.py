"""Runs projections: batches, checkpoints, slices, parked orders, rebuilds."""
