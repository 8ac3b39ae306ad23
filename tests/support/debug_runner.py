"""Runs `python -m cli` with its usual log, and a second one of every logger at DEBUG level.

The first argument is the file of the second log.
"""

import logging
import runpy
import sys

import logs

if __name__ == "__main__":
    logs.start(format="json")  # The process then finds logging configured.
    root = logging.getLogger()
    (usual,) = root.handlers
    usual.setLevel(root.level)
    everything = logging.FileHandler(sys.argv.pop(1))
    everything.setFormatter(usual.formatter)
    root.addHandler(everything)
    root.setLevel(logging.DEBUG)
    runpy.run_module("cli", run_name="__main__", alter_sys=True)
