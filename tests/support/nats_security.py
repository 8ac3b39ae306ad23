"""Keys, tokens and certificates of a NATS server, as its own tools would make them."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_SEED, _OPERATOR, _ACCOUNT, _USER = 18 << 3, 14 << 3, 0, 20 << 3


class NatsKey:
    """A key pair in the notation of NATS."""

    def __init__(self, kind: int) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._kind = kind

    @property
    def public(self) -> str:
        return _encoded(bytes([self._kind]) + self._key.public_key().public_bytes_raw())

    @property
    def seed(self) -> str:
        first, second = _SEED | self._kind >> 5, (self._kind & 31) << 3
        return _encoded(bytes([first, second]) + self._key.private_bytes_raw())

    def token(self, subject: NatsKey, claims: dict[str, Any]) -> str:
        """A token about `subject`, signed with this key."""
        about = {"jti": "test", "iat": 1_700_000_000, "iss": self.public, "sub": subject.public}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, about | {"nats": claims | {"version": 2}}]
        text = ".".join(_url64(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_url64(self._key.sign(text.encode()))}"


def write_accounts(folder: Path) -> tuple[str, Path]:
    """The lines of a server's configuration for one user, and the file with the credentials."""
    operator, account, system, user = map(NatsKey, (_OPERATOR, _ACCOUNT, _ACCOUNT, _USER))
    counted = ("subs", "data", "payload", "imports", "exports", "conn", "leaf", "streams")
    limits = dict.fromkeys((*counted, "consumer", "mem_storage", "disk_storage"), -1)
    with_streams = {"type": "account", "limits": limits | {"wildcards": True}}
    file = write_credentials(folder, account.token(user, {"type": "user", **_UNLIMITED}), user)
    configuration = (
        f"operator: {operator.token(operator, {'type': 'operator'})}\nresolver: MEMORY\n"
        f"system_account: {system.public}\nresolver_preload: {{\n"
        f"{account.public}: {operator.token(account, with_streams)}\n"
        f"{system.public}: {operator.token(system, {'type': 'account'})}\n}}\n"
    )
    return configuration, file


def write_credentials(folder: Path, token: str, user: NatsKey | None = None) -> Path:
    """A file with the token and the seed of a user."""
    file = folder / "user.creds"
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{(user or NatsKey(_USER)).seed}\n"
        "------END USER NKEY SEED------\n"
    )
    return file


def write_certificates(
    folder: Path, lasts: timedelta = timedelta(hours=1)
) -> tuple[Path, Path, Path]:
    """A certificate authority, and a certificate with its key for 127.0.0.1."""
    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.now(UTC)
    found = []
    for subject, public, is_authority in (("authority", authority, True), ("server", key, False)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("authority"))
            .public_key(public.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + lasts)
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
        )
        file = folder / f"{subject}.pem"
        file.write_bytes(builder.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
        found.append(file)
    private = folder / "server.key"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return found[0], found[1], private


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


_UNLIMITED = {"subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}}


def _encoded(data: bytes) -> str:
    checksum = binascii.crc_hqx(data, 0).to_bytes(2, "little")
    return base64.b32encode(data + checksum).decode().rstrip("=")


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
