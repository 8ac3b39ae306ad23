"""Cursors for other systems: checksummed positions in the log, each of an epoch."""

from __future__ import annotations

import hashlib
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

from eventlog import feed
from eventlog.epochs import FIRST, Epochs
from eventlog.log import Checkpoint
from eventlog.postgres import Reader

_CURSOR = struct.Struct(">Iqq")
_CHECKSUM_BYTES = 4  # With them a cursor has 32 characters and needs no padding.


class InvalidCursor(ValueError):
    """A text from which no reader can continue; the message completes "The cursor …"."""


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


async def position_of(reader: Reader, text: str, epochs: Epochs) -> Checkpoint:
    """The position of a cursor in the current log; raises InvalidCursor."""
    try:
        position, epoch = decode_cursor(text)
    except ValueError as error:
        raise InvalidCursor("was not issued by this feed") from error
    survived = epochs.last_valid(epoch)
    if survived is not None and position > survived:
        raise InvalidCursor(
            "is from before the log was restored, and beyond what survived: continue with "
            f"{encode_cursor(survived, epochs.current)}, and skip the events that you have"
        )
    if not await feed.is_reachable(reader, position):
        raise InvalidCursor(
            "is beyond the end of the log, which may have been restored: start without it"
        )
    return position
