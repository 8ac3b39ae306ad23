"""Personal data: addresses, sealed under a key per customer; erasure deletes the key."""
