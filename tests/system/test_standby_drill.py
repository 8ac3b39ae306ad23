"""Postgres is lost with its disk: its standby has every customer's key that was handed out."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal

import asyncpg
import pytest

from dev.bench.servers import postgres
from dev.bench.standby import STANDBY, name_synchronous_standbys, standby_of
from eventlog.postgres import UNAVAILABLE, connect_pool
from privacy.keys import CustomerKey, PostgresKeys
from tests.support.webhook_receiver import until

CUSTOMERS_AT_ONCE = 8


@pytest.mark.drill
async def test_standby_has_every_key_that_was_handed_out() -> None:
    handed_out: list[CustomerKey] = []

    async def create_keys(keys: PostgresKeys, name: str) -> None:
        for number in itertools.count():
            try:
                handed_out.append(await keys.current(f"{name}-{number}"))
            except UNAVAILABLE:
                return

    async with postgres() as primary:
        dsn = await primary.database("orders")
        async with standby_of(primary) as standby, await connect_pool(dsn) as pool:
            await name_synchronous_standbys(primary.dsn, STANDBY)
            creating = asyncio.gather(
                *(create_keys(PostgresKeys(pool), f"c{n}") for n in range(CUSTOMERS_AT_ONCE))
            )
            await until(lambda: len(handed_out) > CUSTOMERS_AT_ONCE)
            os.killpg(primary.process.pid, signal.SIGKILL)
            await creating
            pool.terminate()

            connection = await asyncpg.connect(standby)
            await connection.execute("SELECT pg_promote()")
            await connection.close()
            async with await connect_pool(standby.replace("/postgres?", "/orders?")) as promoted:
                found = await PostgresKeys(promoted).find([key.key_id for key in handed_out])

    assert found == {key.key_id: key for key in handed_out}
