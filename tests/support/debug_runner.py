"""Runs `python -m cli` with every log at DEBUG level."""

import logging
import runpy

if __name__ == "__main__":
    # Whoever comes first decides: the process itself then finds that there is logging already.
    logging.basicConfig(level=logging.DEBUG)
    runpy.run_module("cli", run_name="__main__", alter_sys=True)
