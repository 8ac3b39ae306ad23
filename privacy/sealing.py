"""Seals addresses under a customer's key (AES-256-GCM) and unseals them, as long as it exists."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from base64 import b32encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy.address import Address
from privacy.keys import CustomerKey, ReadableKeys

# A storage format: events hold such tokens for ever. Another format gets another number.
_TOKEN = re.compile(r"sealed\.1\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_NONCE_BYTES = 12
_HASH_BYTES = 12
_HASH_LABEL = b"orderly payload hash"


class BrokenSeal(ValueError):
    """A token that is malformed, was modified, or names an unknown key."""


def seal(address: Address, key: CustomerKey) -> str:
    """The address as a URL-safe token; a different one each time."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    plain = address.model_dump_json(exclude_none=True).encode()
    # Bound to the customer: a key that is moved to another customer does not unseal it.
    ciphertext = AESGCM(key.secret).encrypt(nonce, plain, key.customer_id.encode())
    return f"sealed.1.{key.key_id}.{_encoded(nonce + ciphertext)}"


def unseal(token: str, keys: Mapping[str, CustomerKey | None]) -> Address | None:
    """The address in a token, None if its key was erased; raises BrokenSeal.

    `keys` is a result of ReadableKeys.find that covers the token's key.
    """
    key_id, sealed = _parts(token)
    if key_id not in keys:
        raise BrokenSeal(f"an address is sealed under key {key_id}, which is unknown")
    key = keys[key_id]
    if key is None:
        return None
    nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        plain = AESGCM(key.secret).decrypt(nonce, ciphertext, key.customer_id.encode())
    except (InvalidTag, ValueError):
        raise BrokenSeal(f"an address sealed under key {key_id} has been changed") from None
    # Not validated again: the rules may have changed since it was sealed.
    return Address.model_construct(**json.loads(plain))


async def unseal_all(
    tokens: Collection[str], keys: ReadableKeys
) -> dict[str, Address | BrokenSeal | None]:
    """By token, its address, None if it was erased, or why it cannot be read.

    One query for all keys. A token that cannot be read does not affect the others.
    """
    key_ids = {match[1] for token in tokens if (match := _TOKEN.fullmatch(token))}
    found = await keys.find(key_ids) if key_ids else {}
    return {token: _unsealed(token, found) for token in tokens}


def _unsealed(token: str, keys: Mapping[str, CustomerKey | None]) -> Address | BrokenSeal | None:
    try:
        return unseal(token, keys)
    except BrokenSeal as broken:
        return broken


def key_id_of(text: str) -> str | None:
    """The id of the key that a token names; None for any other text."""
    match = _TOKEN.fullmatch(text)
    return match[1] if match else None


def keyed_hash(text: str, key: CustomerKey) -> str:
    """96 bits that stand for `text`, as lower-case letters and digits (base32).

    Without the key the text cannot be guessed by trial, as it could from a bare hash.
    """
    hash_key = hmac.digest(key.secret, _HASH_LABEL, "sha256")
    digest = hmac.digest(hash_key, text.encode(errors="surrogatepass"), "sha256")
    return b32encode(digest[:_HASH_BYTES]).decode().rstrip("=").lower()


def _parts(token: str) -> tuple[str, bytes]:
    """The id of the token's key, and the sealed bytes."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise BrokenSeal("not a sealed address")
    try:
        return match[1], urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))
    except ValueError:
        raise BrokenSeal(f"an address sealed under key {match[1]} has been changed") from None


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
