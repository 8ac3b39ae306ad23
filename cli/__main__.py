"""Runs the command line as `python -m cli`, where the `orderly` script is not installed."""

from cli.main import main

main()
