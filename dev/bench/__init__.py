"""How fast orderly is, beside the bare SDK on the same server and machine: `make bench`."""
