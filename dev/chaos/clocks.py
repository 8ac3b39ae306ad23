"""Wall clocks of processes, each of which the nemesis sets forward and back while it runs."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
PROCESSES = ("api", "worker", "projector", "deliverer")


class Clocks:
    """The wall clocks of PROCESSES; their monotonic clocks run on.

    Raises OSError if this machine cannot shift them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._library = folder / "clock.so"
        compiler = shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            raise OSError("it takes Linux and a C compiler, cc")
        folder.mkdir(parents=True, exist_ok=True)
        command: list[str | Path] = [
            compiler,
            "-shared",
            "-fPIC",
            "-O2",
            "-o",
            self._library,
            SOURCE,
            "-ldl",
        ]
        if (done := subprocess.run(command, capture_output=True, text=True)).returncode != 0:
            raise OSError(f"cc cannot compile {SOURCE.name}: {done.stderr.strip()}")
        for name in PROCESSES:
            self._file(name).write_bytes(_packed(0))

    def environments(self) -> dict[str, dict[str, str]]:
        """By process, the variables that it starts with."""
        return {
            name: {"LD_PRELOAD": str(self._library), "CLOCK_SHIFT_FILE": str(self._file(name))}
            for name in PROCESSES
        }

    def shift(self, name: str, seconds: int) -> None:
        """From now on the clock of this process is ahead by `seconds`, also after a restart."""
        with self._file(name).open("r+b") as file:
            file.write(_packed(seconds))

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.shift"


def _packed(seconds: int) -> bytes:
    return struct.pack("=q", seconds)
