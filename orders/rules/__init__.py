"""The rules that decide which events a command or a service result causes."""
