"""Authentication by bearer token, and authorization by scope, role and ownership."""
