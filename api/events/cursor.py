"""The cursors of the event feed: checksummed positions in the log, each of an epoch."""

from __future__ import annotations

import hashlib
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

from eventlog.epochs import FIRST
from eventlog.log import Checkpoint

_CURSOR = struct.Struct(">Iqq")
_CHECKSUM_BYTES = 4  # With them a cursor has 32 characters and needs no padding.


def encode_cursor(position: Checkpoint, epoch: int = FIRST) -> str:
    """The opaque text of a position in the log, as it is in an epoch."""
    packed = _CURSOR.pack(epoch, *position)
    # Against accidental changes, which would skip events; a forged cursor reveals nothing.
    checksum = hashlib.sha256(packed).digest()[:_CHECKSUM_BYTES]
    return urlsafe_b64encode(packed + checksum).decode()


def decode_cursor(text: str) -> tuple[Checkpoint, int]:
    """The position and the epoch of a cursor.

    Raises ValueError for text that `encode_cursor` did not return.
    """
    decoded = urlsafe_b64decode(text)
    if len(decoded) != _CURSOR.size + _CHECKSUM_BYTES:
        raise ValueError("not as long as a cursor")
    epoch, *unpacked = _CURSOR.unpack_from(decoded)
    position = Checkpoint(*unpacked)
    if min(position) < 0 or encode_cursor(position, epoch) != text:
        raise ValueError("not a cursor of this feed")
    return position, epoch
