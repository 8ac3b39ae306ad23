"""The credentials of a NATS user: a file with a token and the seed of the key that it names."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_JWT = re.compile(r"-+BEGIN NATS USER JWT-+\s+(\S+)\s+-+END")
_SEED = re.compile(r"-+BEGIN USER NKEY SEED-+\s+(\S+)\s+-+END")
_PREFIX_BYTES, _KEY_BYTES = 2, 32


class CredentialsError(OSError):
    """The file has no credentials in the form of NATS."""


def read_jwt(file: str) -> bytes:
    """The token, which the server checks."""
    return _part(file, _JWT).encode()


def sign(file: str, nonce: str) -> bytes:
    """The signature of what the server has sent, in base64."""
    seed = _part(file, _SEED)
    decoded = base64.b32decode(seed + "=" * (-len(seed) % 8))
    key = Ed25519PrivateKey.from_private_bytes(decoded[_PREFIX_BYTES:][:_KEY_BYTES])
    return base64.b64encode(key.sign(nonce.encode()))


def _part(file: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(Path(file).read_text(errors="replace"))
    if found is None:
        raise CredentialsError(f"{file} has no credentials of a NATS user")
    return found[1]
