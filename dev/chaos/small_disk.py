"""A small disk of a run's own, which the nemesis fills and frees."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DISK_BYTES = 512 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 0x40000, 2


class SmallDisk:
    """A file system that can be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Takes what is free; to be repeated, because others free what they had."""
        with self._ballast.open("ab") as ballast:
            for size in (CHUNK_BYTES, os.sysconf("SC_PAGE_SIZE")):
                with suppress(OSError):
                    while True:
                        os.posix_fallocate(ballast.fileno(), self._ballast.stat().st_size, size)

    def free(self) -> None:
        """Frees what `fill` took."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, size: int = DISK_BYTES) -> Iterator[SmallDisk]:
    """A disk in memory at `folder`, which this process and its children see, and no other.

    This process needs to have no threads yet. Raises OSError if it may not mount a disk.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        _mount(libc, folder, size)
    except AttributeError as error:
        raise OSError(f"only Linux has it: {error}") from error
    try:
        yield SmallDisk(folder)
    finally:
        libc.umount2(os.fsencode(folder), MNT_DETACH)


def _mount(libc: ctypes.CDLL, folder: Path, size: int) -> None:
    """Mounts in a namespace of this process: as root as it is, else as root of its own users."""
    user, group = os.geteuid(), os.getegid()
    _check(libc.unshare(CLONE_NEWNS if user == 0 else CLONE_NEWNS | CLONE_NEWUSER))
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    options = f"size={size},mode=755".encode()
    _check(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
