"""Runs one of our processes with every log at its loudest, as in: loudly.py cli.py api."""

import logging
import runpy
import sys

if __name__ == "__main__":
    # Whoever comes first decides: the process itself then finds that there is logging already.
    logging.basicConfig(level=logging.DEBUG)
    sys.argv = sys.argv[1:]
    sys.path.insert(0, ".")
    runpy.run_path(sys.argv[0], run_name="__main__")
