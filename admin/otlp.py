"""Sends the metrics of /metrics by OTLP as well, if the OTEL_* variables ask for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from threading import Thread

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

import telemetry
from admin.metrics import of_sdk
from background import in_background

ReadMetrics = Callable[[], Awaitable[list[Metric]]]
ReadSdkMetrics = Callable[[], Awaitable[bytes]]

log = logging.getLogger("orderly.admin")


@asynccontextmanager
async def exporting(
    service: str, read_metrics: ReadMetrics | None, read_sdk_metrics: ReadSdkMetrics | None
) -> AsyncIterator[None]:
    """Exports inside the `async with`, once in each interval, and once at the end.

    A collector that does not answer delays only the next export, and the end by three seconds at
    most; nothing is kept for it.
    """
    if not telemetry.exports_metrics():
        yield
        return
    from admin.otlp_data import data_of

    exporter, resource = telemetry.metric_exporter(), telemetry.resource_of(service)

    async def export() -> None:
        try:
            sdk = await read_sdk_metrics() if read_sdk_metrics else b""
            read = await read_metrics() if read_metrics else []
            data = data_of(resource, [*REGISTRY.collect(), *of_sdk(sdk)], read)
            await _in_thread(lambda: exporter.export(data))
        except Exception:  # The next one may succeed.
            log.exception("metrics were not exported")

    try:
        async with in_background(_repeat(export, telemetry.metrics_interval_seconds())):
            yield
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(telemetry.FLUSH_SECONDS_MAX):
                await export()
                await _in_thread(exporter.shutdown)


async def _repeat(export: Callable[[], Awaitable[None]], seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await export()


async def _in_thread(call: Callable[[], object]) -> None:
    """Makes a call in a thread, which the end of the process does not wait for."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def perform() -> None:
        try:
            call()
        finally:
            with suppress(RuntimeError):  # The loop is closed: it does not wait.
                loop.call_soon_threadsafe(done.set)

    Thread(target=perform, daemon=True).start()
    await done.wait()
