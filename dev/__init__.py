"""Tools for developers: embedded stack, simulators, scenarios, demo and benchmarks."""
