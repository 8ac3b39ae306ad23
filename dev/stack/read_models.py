"""Rebuilds the read models that another version of the software made, before projectors start."""

from __future__ import annotations

from collections.abc import Callable

from dev.stack.errors import StackError
from dev.stack.supervisor import Report
from readside.engine import generations
from readside.engine.generations import LIVE
from readside.engine.projection import Projection
from readside.engine.rebuild import RebuildError, RebuildProgress, rebuild
from readside.registry import PROJECTIONS

REBUILDING = "rebuilding"


async def upgrade_read_models(dsn: str, report: Report) -> None:
    """Rebuilds each read model whose tables have another version than the code.

    It continues a rebuild that was interrupted. Raises StackError.
    """
    for projection in PROJECTIONS:
        async with generations.connected(dsn, projection) as connection:
            made_by = await generations.version_of(connection, projection.name, LIVE)
        if made_by == projection.version:
            continue
        try:
            await rebuild(dsn, projection, _reporting(projection, report))
        except RebuildError as error:
            raise StackError(
                f"The read model {projection.name} cannot be rebuilt: {error}"
            ) from None
        report(projection.name, f"rebuilt: version {made_by} became {projection.version}")


def _reporting(projection: Projection, report: Report) -> Callable[[RebuildProgress], None]:
    def show(progress: RebuildProgress) -> None:
        done = f"{progress.filled:,} of {progress.events:,} events"
        report(projection.name, f"{REBUILDING}: {done}")

    return show
