"""Personal data: what it is, the customers' keys, and sealing; to erase one is to lose a key."""
