"""Certificates that a process uses: which they are, and when they expire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from admin.certificates import CertificateFile, files_of, watch
from settings import Settings
from tests.support.nats_security import write_certificates

DAY = timedelta(days=1)


def days_left(expires_at: float) -> int:
    return round((expires_at - datetime.now(UTC).timestamp()) / DAY.total_seconds())


def shown(use: str) -> int:
    """The days that /metrics says."""
    found = REGISTRY.get_sample_value("orderly_certificate_expiry_timestamp_seconds", {"use": use})
    assert found is not None
    return days_left(found)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    _, certificate, _ = write_certificates(tmp_path, 30 * DAY)
    return certificate


def test_files_are_those_that_the_settings_name() -> None:
    settings = Settings(
        postgres_dsn="postgresql://db/o?sslmode=verify-full&sslrootcert=%2Fpg.crt&sslcert=/me.crt",
        service_cert="/shown.crt",
        service_key="/shown.key",
    )
    environment = {"TEMPORAL_TLS_CLIENT_CERT_PATH": "/t.crt", "NATS_CA": "/nats.crt"}
    assert {(file.use, file.path) for file in files_of(settings, environment)} == {
        ("postgres-authority", "/pg.crt"),
        ("postgres-client", "/me.crt"),
        ("temporal-client", "/t.crt"),
        ("service-client", "/shown.crt"),
        ("nats-authority", "/nats.crt"),
    }
    assert files_of(Settings(postgres_dsn="postgresql://db/o"), {}) == []


def test_chain_ends_with_its_first_end_and_authorities_with_the_last(
    tmp_path: Path, certificate: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + write_certificates(old, DAY)[1].read_bytes())
    chain, authorities = (
        CertificateFile("t", str(both), is_authority=is_authority) for is_authority in (False, True)
    )
    assert days_left(chain.expires_at().timestamp()) == 1
    assert days_left(authorities.expires_at().timestamp()) == 30


def test_metrics_show_what_is_used(tmp_path: Path, certificate: Path) -> None:
    """A renewed one only where it is read again."""
    watch(
        [
            CertificateFile("at the start", str(certificate)),
            CertificateFile("again", str(certificate), is_read_again=True),
            CertificateFile("unreadable", str(tmp_path)),
        ]
    )
    assert (shown("at the start"), shown("again")) == (30, 30)
    write_certificates(tmp_path, 90 * DAY)
    assert (shown("at the start"), shown("again")) == (30, 90)
