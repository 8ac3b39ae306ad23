"""When the certificates of a process expire: those that it shows, and those of authorities."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from prometheus_client import Gauge

from settings import Settings

_EXPIRY = Gauge(
    "orderly_certificate_expiry_timestamp_seconds",
    "When a certificate that this process uses expires, in Unix time, by what it is for.",
    ["use"],
)


@dataclass(frozen=True)
class CertificateFile:
    """A file in PEM, and what it is for."""

    use: str
    """As in "temporal-client"."""
    path: str
    is_authority: bool = False
    is_read_again: bool = False
    """For each new connection; others are read at the start of a process."""

    def expires_at(self) -> datetime:
        """The first end in a chain; of authorities the last one, as new ones stand beside old ones.

        Raises OSError or ValueError for a file that cannot be used.
        """
        found = x509.load_pem_x509_certificates(Path(self.path).read_bytes())
        ends = [certificate.not_valid_after_utc for certificate in found]
        return max(ends) if self.is_authority else min(ends)


def files_of(
    settings: Settings, environment: Mapping[str, str] = os.environ
) -> list[CertificateFile]:
    """The files that the settings of a process name."""
    query = parse_qs(urlsplit(settings.postgres_dsn).query)
    temporal, authority = (
        environment.get(f"TEMPORAL_TLS_{name}_CERT_PATH") for name in ("CLIENT", "SERVER_CA")
    )
    named = [
        (f"postgres-{kind}", path, kind == "authority", True)
        for kind, name in (("client", "sslcert"), ("authority", "sslrootcert"))
        for path in query.get(name, [])
    ]
    named += [
        (use, path, use.endswith("authority"), False)
        for use, path in (
            ("temporal-client", temporal),
            ("temporal-authority", authority),
            ("service-client", settings.service_cert),
            ("service-authority", settings.service_ca),
            ("nats-client", environment.get("NATS_CERT")),
            ("nats-authority", environment.get("NATS_CA")),
        )
        if path
    ]
    return [CertificateFile(*one) for one in named]


def watch(files: list[CertificateFile]) -> None:
    """Has /metrics say when each expires; a file that cannot be read says nothing."""
    for file in files:
        of_use = _EXPIRY.labels(file.use)
        if file.is_read_again:
            of_use.set_function(partial(_timestamp, file))
        else:
            of_use.set(_timestamp(file))


def _timestamp(file: CertificateFile) -> float:
    try:
        return file.expires_at().timestamp()
    except (OSError, ValueError):  # What needs it says so.
        return float("nan")
