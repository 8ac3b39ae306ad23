"""Generates what monitors orderly, in the formats of others, from one source each."""
