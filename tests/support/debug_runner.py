"""Runs `python -m cli` with every log at DEBUG level."""

import logging
import runpy

if __name__ == "__main__":
    # The first configuration wins: the process then finds logging configured.
    logging.basicConfig(level=logging.DEBUG)
    runpy.run_module("cli", run_name="__main__", alter_sys=True)
