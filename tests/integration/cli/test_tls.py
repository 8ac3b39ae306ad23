"""Connections to Postgres and Temporal with TLS, as docs/deploy.md sets them up."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from temporalio.testing import WorkflowEnvironment

from dev.tcp_proxy import unix_socket
from eventlog.postgres import connect
from tests.support.manifests import settings_of
from tests.support.nats_security import write_certificates
from tests.support.tls_proxy import server_context, tls_postgres, tls_temporal
from workflows import client


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, Path]:
    """An authority, and a certificate for 127.0.0.1 that both sides have."""
    return dict(zip(("authority", "certificate", "key"), write_certificates(tmp_path), strict=True))


async def test_postgres_is_verified_and_verifies_the_client(
    dsn: str, certificates: dict[str, Path]
) -> None:
    async with tls_postgres(unix_socket(dsn), server_context(**certificates)) as port:
        parts = urlsplit(dsn)
        secured = f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=verify-full"
        own = {"sslcert": certificates["certificate"], "sslkey": certificates["key"]}
        trusted = secured + "&" + urlencode({"sslrootcert": certificates["authority"], **own})
        connection = await connect(trusted)
        assert await connection.fetchval("SELECT count(*) FROM order_events") == 0
        await connection.close()

        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(secured + "&" + urlencode({"sslrootcert": certificates["certificate"]}))


async def test_certificate_that_has_expired_is_not_accepted(dsn: str, tmp_path: Path) -> None:
    """That of the server here; the server looks at the client's in the same way."""
    files = write_certificates(tmp_path, timedelta(minutes=-1))
    expired = dict(zip(("authority", "certificate", "key"), files, strict=True))
    async with tls_postgres(unix_socket(dsn), server_context(**expired)) as port:
        parts, trusted = urlsplit(dsn), urlencode({"sslrootcert": expired["authority"]})
        address = f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}"
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            await connect(f"{address}?sslmode=verify-full&{trusted}")


async def test_temporal_is_verified_and_verifies_the_client(
    temporal: WorkflowEnvironment, certificates: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = temporal.client.service_client.config.target_host.split(":")
    files = {
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH": certificates["authority"],
        "TEMPORAL_TLS_CLIENT_CERT_PATH": certificates["certificate"],
        "TEMPORAL_TLS_CLIENT_KEY_PATH": certificates["key"],
    }
    assert files.keys() < settings_of("production").keys()
    async with tls_temporal(host, int(port), server_context(**certificates)) as secured:
        address = {"TEMPORAL_ADDRESS": f"127.0.0.1:{secured}", "TEMPORAL_TLS": "true"}
        assert await state({**address, **files}, monkeypatch) == "ok"

        del files["TEMPORAL_TLS_CLIENT_CERT_PATH"], files["TEMPORAL_TLS_CLIENT_KEY_PATH"]
        assert (await state({**address, **files}, monkeypatch)).startswith("unreachable")


async def state(variables: Mapping[str, object], monkeypatch: pytest.MonkeyPatch) -> str:
    """The state of Temporal for a client with only these variables."""
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, str(value))
        return await client.health_of(await client.connect(lazy=True))
