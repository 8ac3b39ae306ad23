"""The three stand-ins behind one port, each with an OpenAPI document of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI

from dev.simulators import idempotent_service as desk
from dev.simulators import inventory as shelves
from dev.simulators import outbox, payments, shipping, stock
from dev.simulators.idempotent_service import Desk
from dev.simulators.outbox import Outbox
from dev.simulators.store import Store

TABLES = tuple(module.TABLES for module in (desk, outbox, payments, shelves, shipping))
SERVICES = {"payments": payments.create, "stock": stock.create, "shipping": shipping.create}


@dataclass(frozen=True)
class Options:
    """Where the stand-ins keep what they know, and whom they tell what happens."""

    database: Path
    callback_url: str | None = None
    """Callbacks go to `{callback_url}/payments` and so on."""
    secret: str | None = field(default=None, repr=False)


def create_app(options: Options) -> FastAPI:
    """The application; the next one on the same database continues where it was."""
    store = Store(options.database, *TABLES)
    callbacks = Outbox(store, options.callback_url, options.secret)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with closing(store):
            async with callbacks.sending():
                yield

    app = FastAPI(title="Stand-ins", version="1", description=__doc__, lifespan=lifespan)
    for party, create in SERVICES.items():
        app.mount(f"/{party}", create(Desk(party, store, callbacks)))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Answers as long as the process does."""
        return {"status": "alive"}

    return app
