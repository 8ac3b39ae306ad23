"""A real OpenID provider, in a process of its own: oidc-provider-mock, over real HTTP.

Its access tokens are JWTs here, as those of most providers are.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.support.paths import ROOT

AUDIENCE, CLIENT = "orders-api", "orderly-console"
USERS = {"olga": "orders:read orders:write orders:operate", "ada": "orders:read orders:write"}
"""Each with the scope of its tokens."""
_KEYS = "/access-token-keys"


@dataclass(frozen=True)
class Provider:
    """Where it is."""

    issuer: str

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of an API at whose console its users can sign in."""
        return {
            "token_issuer": self.issuer,
            "token_audience": AUDIENCE,
            "token_jwks_url": f"{self.issuer}{_KEYS}",
            "oidc_client_id": CLIENT,
            "oidc_client_secret": "its secret: ü%+",
            "rate_limit_per_second": 0,
        }

    def revoke(self, user: str) -> None:
        """Ends all sessions of a user: nothing renews a token any more."""
        httpx.post(f"{self.issuer}/users/{user}/revoke-tokens", timeout=60).raise_for_status()


@contextmanager
def running_provider() -> Iterator[Provider]:
    """A provider on a free port, with its users."""
    command = [sys.executable, "-W", "ignore", "-m", __name__]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            issuer = process.stdout.readline().strip()
            assert issuer, "the provider did not start"
            yield Provider(issuer)
        finally:
            process.terminate()


def _serve() -> None:
    """Serves until it is terminated; prints the issuer first."""
    # Only in that process: on import, it warns of what it uses.
    import flask
    import oidc_provider_mock
    from werkzeug.serving import make_server

    private = ec.generate_private_key(ec.SECP256R1())
    app = flask.Flask(oidc_provider_mock.__name__)  # With its templates.
    # Not 127.0.0.1, where the console is: cookies do not tell ports apart.
    server = make_server("localhost", 0, app, threaded=True)
    issuer = f"http://localhost:{server.server_port}"
    issued: list[str] = []

    def access_token(client: Any, grant_type: str, user: Any, scope: str) -> str:
        issued.append(grant_type)
        now = int(time.time())
        claims = {"iss": issuer, "aud": AUDIENCE, "sub": user.sub, "scope": user.claims["scope"]}
        more = {"iat": now, "exp": now + 600, "jti": str(len(issued))}
        return jwt.encode({**claims, **more}, private, "ES256", {"kid": "access"})

    @app.get(_KEYS)
    def keys() -> Any:
        public = json.loads(ECAlgorithm.to_jwk(private.public_key()))
        return {"keys": [{**public, "kid": "access"}]}

    app.config["OAUTH2_ACCESS_TOKEN_GENERATOR"] = access_token
    oidc_provider_mock.init_app(
        app,
        require_nonce=True,
        user_claims=[
            oidc_provider_mock.User(sub=sub, claims={"scope": scope})
            for sub, scope in USERS.items()
        ],
    )
    print(issuer, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve()
