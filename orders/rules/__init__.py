"""The rules: which events a command, a step result or the order itself causes."""
