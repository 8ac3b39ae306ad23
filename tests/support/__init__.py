"""Shared by the tests: fixtures, builders, fakes and clients."""
