"""The three simulators on one port, each with its own OpenAPI document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI

from dev.simulators import idempotent_service, inventory, outbox, payments, shipping, stock
from dev.simulators.idempotent_service import IdempotentService
from dev.simulators.outbox import Outbox
from dev.simulators.store import Store

TABLES = tuple(
    module.TABLES for module in (idempotent_service, outbox, payments, inventory, shipping)
)
SERVICES = {"payments": payments.create, "stock": stock.create, "shipping": shipping.create}


@dataclass(frozen=True)
class SimulatorOptions:
    """Where the simulators store their state, and where they send callbacks."""

    database: Path
    callback_url: str | None = None
    """Callbacks go to `{callback_url}/payments` and so on."""
    secret: str | None = field(default=None, repr=False)


def create_app(options: SimulatorOptions) -> FastAPI:
    """The application; another one on the same database continues from its state."""
    store = Store(options.database, *TABLES)
    callbacks = Outbox(store, options.callback_url, options.secret)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with closing(store):
            async with callbacks.sending():
                yield

    app = FastAPI(title="Simulators", version="1", description=__doc__, lifespan=lifespan)
    for name, create in SERVICES.items():
        app.mount(f"/{name}", create(IdempotentService(name, store, callbacks)))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Responds while the process runs."""
        return {"status": "alive"}

    return app
