"""Errors of the embedded stack; each message says what a person can do about it."""


class StackError(Exception):
    """The stack cannot start, or cannot continue."""


class ResourceInUse(StackError):
    """A port or a path that was asked for cannot be used."""
