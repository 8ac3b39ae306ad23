"""The cursors of the event feed: checksummed positions in the log."""

from __future__ import annotations

import hashlib
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

from eventlog.log import Checkpoint

_POSITION = struct.Struct(">qq")
_CHECKSUM_BYTES = 5  # With them a cursor has 28 characters and needs no padding.


def encode_cursor(position: Checkpoint) -> str:
    """The opaque text of a position in the log."""
    packed = _POSITION.pack(*position)
    # Against accidental changes, which would skip events; a forged cursor reveals nothing.
    checksum = hashlib.sha256(packed).digest()[:_CHECKSUM_BYTES]
    return urlsafe_b64encode(packed + checksum).decode()


def decode_cursor(text: str) -> Checkpoint:
    """The position of a cursor; raises ValueError for text that `encode_cursor` did not return."""
    decoded = urlsafe_b64decode(text)
    if len(decoded) != _POSITION.size + _CHECKSUM_BYTES:
        raise ValueError("not as long as a cursor")
    position = Checkpoint(*_POSITION.unpack_from(decoded))
    if min(position) < 0 or encode_cursor(position) != text:
        raise ValueError("not a cursor of this feed")
    return position
