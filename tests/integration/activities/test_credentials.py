"""Calls of services say who makes them: by token, by signature, by certificate."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.testing import ActivityEnvironment

from activities.credentials import Credentials, credentials_for, tls
from activities.payments import Payments
from activities.service_client import Service, http_client
from orders.steps import Authorise, PaymentApproved, StepRequest
from settings import ServiceSettings, SettingsError
from tests.support.servers import serving
from tests.support.webhook_signing import new_secret

KEY = "ord_x:authorise-1"
REQUEST = StepRequest(
    order_id="ord_x",
    customer_id="900",
    currency="USD",
    step=Authorise(step_id="authorise-1", amount=100, method="pm_für_später"),
)


async def test_call_has_token_and_a_valid_signature() -> None:
    secret, calls = new_secret(), []

    async def answer(request: Request) -> Response:
        calls.append((dict(request.headers), await request.body()))
        return JSONResponse({"reference": "auth_1"}, 201)

    credentials = credentials_for(
        ServiceSettings(payments_token="t0ken", payments_secret=secret, stock_token="other"),
        "payments",
    )
    app = Starlette(routes=[Route("/authorisations", answer, methods=["POST"])])
    async with serving(app) as server, http_client(20) as http:
        service = Service(
            http, "payments", "ORDERLY_PAYMENTS_URL", str(server.base_url), credentials
        )
        approved = await ActivityEnvironment().run(Payments(service).authorise_payment, REQUEST)
    assert approved == PaymentApproved(step_id="authorise-1", reference="auth_1")
    [(headers, body)] = calls
    assert (headers["authorization"], headers["webhook-id"]) == ("Bearer t0ken", KEY)
    assert headers["idempotency-key"] == KEY
    Webhook(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + b" ", headers)
    assert "t0ken" not in repr(service) and secret not in repr(service)


def test_nothing_is_sent_by_default() -> None:
    credentials = credentials_for(ServiceSettings(), "shipping")
    assert (credentials.headers(KEY, b"{}"), credentials.are_given) == ({}, False)
    assert Credentials(token="t").are_given


class Authority:
    """A private authority, and certificates that it has signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "orderly tests")])
        self.ca = self._write("ca", self._certificate(self._name, self._key, is_ca=True))

    def issue(self, name: str) -> tuple[str, str]:
        """The files of a new certificate for this machine and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        written = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        certificate = self._certificate(subject, key)
        return self._write(name, certificate), self._write(f"{name}-key", written)

    def _certificate(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool = False
    ) -> bytes:
        now = datetime.now(UTC)
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(here, critical=False)
        )
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, content: bytes) -> str:
        file = self._folder / f"{name}.pem"
        file.write_bytes(content)
        return str(file)


@asynccontextmanager
async def demanding_certificates(authority: Authority) -> AsyncIterator[str]:
    """The URL of a server that shows a certificate and wants one."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca)
    context.load_cert_chain(*authority.issue("server"))
    context.verify_mode = ssl.CERT_REQUIRED
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_certificate_is_shown_and_authority_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("worker")
    own = ServiceSettings(service_ca=authority.ca, service_cert=cert, service_key=key)
    async with demanding_certificates(authority) as url:
        async with http_client(20, tls(own)) as http:
            assert (await http.get(url)).status_code == 204
        without_certificate = ServiceSettings(service_ca=authority.ca)
        without_authority = ServiceSettings(service_cert=cert, service_key=key)
        for less in (without_certificate, without_authority):
            async with http_client(20, tls(less)) as http:
                with pytest.raises(httpx.TransportError):
                    await http.get(url)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, _ = authority.issue("worker")
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(SettingsError, match=r"ORDERLY_SERVICE_CA must name .* No such file"):
        tls(ServiceSettings(service_ca=missing))
    with pytest.raises(SettingsError, match="ORDERLY_SERVICE_CERT and ORDERLY_SERVICE_KEY must"):
        tls(ServiceSettings(service_cert=cert, service_key=authority.ca))
    with pytest.raises(ValueError, match="ORDERLY_SERVICE_KEY together"):
        ServiceSettings(service_cert=cert)
