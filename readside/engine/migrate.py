"""Creates and upgrades all tables: the log's, the engine's and those of the projections."""

from __future__ import annotations

from collections.abc import Sequence

from eventlog import migrate as log_migrations
from eventlog.postgres import connect
from readside.engine import generations
from readside.engine.generations import LIVE
from readside.engine.projection import Projection

_TABLES = """
CREATE TABLE IF NOT EXISTS projection_checkpoints (
    projection     text    NOT NULL,
    generation     text    NOT NULL,
    slice          integer NOT NULL,
    version        integer NOT NULL,            -- of the code that made the tables
    transaction_id xid8    NOT NULL DEFAULT '0',
    position       bigint  NOT NULL DEFAULT 0,
    freshness      bigint[] NOT NULL DEFAULT '{}',  -- events by how late they were: FRESHNESS_MS
    stopped_by     text,                        -- why it has stopped; NULL while it runs
    PRIMARY KEY (projection, generation, slice)
);
CREATE TABLE IF NOT EXISTS parked_orders (
    projection text        NOT NULL,
    generation text        NOT NULL,
    order_id   text        NOT NULL,
    version    integer     NOT NULL,            -- of the first event that is not projected
    error      text        NOT NULL,
    parked_at  timestamptz NOT NULL DEFAULT now(),
    retry      boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (projection, generation, order_id)
);
CREATE TABLE IF NOT EXISTS rebuilds (
    projection     text    PRIMARY KEY,
    transaction_id xid8    NOT NULL,            -- where filling ends and catching up begins
    position       bigint  NOT NULL,
    events         bigint  NOT NULL,            -- to fill in all
    filled         bigint  NOT NULL DEFAULT 0,
    filled_to      text    NOT NULL DEFAULT '', -- the last order that is filled
    is_filled      boolean NOT NULL DEFAULT false
);
CREATE TABLE IF NOT EXISTS orphaned_orders (    -- open, and without a workflow; see orphans.py
    order_id   text        PRIMARY KEY,
    reason     text        NOT NULL,
    found_at   timestamptz NOT NULL DEFAULT now(),
    checked_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS orphan_check (       -- one row: which process searches for orphans
    is_only_row  boolean     PRIMARY KEY DEFAULT true CHECK (is_only_row),
    holder       text        NOT NULL,
    leased_until timestamptz NOT NULL,
    completed_at timestamptz                    -- when a search last came to its end
);
"""


async def migrate(dsn: str, projections: Sequence[Projection]) -> list[str]:
    """Brings the tables up to date; returns the names of the steps that it applied.

    Tables of a projection that exist are left alone: `rebuild` replaces those of another version.
    """
    applied = await log_migrations.migrate(dsn)
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            await log_migrations.lock_migrations(connection)
            await connection.execute(_TABLES)
            for projection in projections:
                if await generations.version_of(connection, projection.name, LIVE) is None:
                    await generations.create(connection, projection, LIVE)
                    await generations.create_indexes(connection, projection, LIVE)
                    applied.append(f"projection {projection.name}")
    finally:
        await connection.close()
    return applied
