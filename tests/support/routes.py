"""The routes of an API that requires tokens."""

from __future__ import annotations

from typing import cast

from fastapi.routing import iter_route_contexts
from temporalio.client import Client

from api.app import create_app
from settings import Settings
from tests.support.token_issuer import SECRET

NOWHERE = "postgresql://orderly@127.0.0.1:1/orderly"


def every_route() -> list[tuple[str, str]]:
    app = create_app(Settings(postgres_dsn=NOWHERE, token_secret=SECRET), cast(Client, None))
    return [
        (method, str(route.path))
        for route in iter_route_contexts(app.routes)
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]
