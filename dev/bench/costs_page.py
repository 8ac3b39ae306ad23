"""Writes the figures of `make bench ARGS="costs --write"` into docs/scale.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dev.bench.report import Json, describe_machine
from dev.bench.usage import COMPONENTS

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def replace_figures(page: str, result: Json) -> str:
    """The page with the tables of a result; raises ValueError if it has no place for them."""
    columns = [*result["costs"].values(), result["whole_order"], result["idle_per_second"]]
    costs = [
        [label(name), *(amount(column.get(name)) for column in columns)]
        for name in result["whole_order"]
    ]
    rates = list(result["rates"].values())
    needs = [[name, *(amount(needed[name]) for needed in rates)] for name in rates[0]]
    names = [*result["costs"], "whole order", "idle, per second"]
    page = _replace(page, "costs", [_table(["", *names], costs), _source(result)])
    heads = [f"{int(rate):,} orders/s" for rate in result["rates"]]
    return _replace(page, "needs", [_table(["", *heads], needs)])


def label(name: str) -> str:
    """A name of a usage, with its unit."""
    return f"{name}, processor ms" if name in COMPONENTS else name


def amount(number: float | None) -> str:
    """Three digits that count; nothing for None."""
    if number is None:
        return ""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _source(result: Json) -> str:
    versions: Mapping[str, str] = result["machine"]
    return (
        f"Measured with {result['orders']} orders on {describe_machine(result['machine'])},"
        f" Temporal Server {versions['temporal_server']} with SQLite. The load average was"
        f" {result['load_average']} at the start: above 0.5, other work shared the cores, and"
        " processor times are too high."
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _replace(page: str, name: str, parts: Sequence[str]) -> str:
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{PAGE} has no {begin.strip()} … {end.strip()}")
    return "".join([before, begin, "\n", "\n\n".join(parts), "\n\n", end, after])
