"""Baseline of reads: a FastAPI route that selects one row with asyncpg and returns its JSON.

The table `responses` contains our API's response for each order.

``python -m dev.bench.asyncpg_baseline DSN PORT`` serves it, with the HTTP server of our API.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import uvicorn
from fastapi import FastAPI, Request, Response

QUERY = "SELECT document FROM responses WHERE order_id = $1"


def create_app(dsn: str) -> FastAPI:
    """The application with the one route."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn) as app.state.pool:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/v1/orders/{order_id}")
    async def get_order(request: Request, order_id: str) -> Response:
        document = await request.app.state.pool.fetchval(QUERY, order_id)
        if document is None:
            return Response(status_code=404)
        return Response(document, media_type="application/json")

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), port=int(sys.argv[2]), access_log=False, log_config=None)
