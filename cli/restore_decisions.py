"""What a person has decided about differences that no command can repair."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from eventlog.postgres import Reader


async def accept(reader: Reader, differences: Iterable[tuple[str, str]], because: str) -> None:
    """Records that differences, each the order id and the text, are accepted."""
    order_ids, texts = [list(column) for column in zip(*differences, strict=True)] or [[], []]
    await reader.execute(
        "INSERT INTO accepted_differences (order_id, difference, because)"
        " SELECT new.*, $3 FROM unnest($1::text[], $2::text[]) AS new ON CONFLICT DO NOTHING",
        order_ids,
        texts,
        because,
    )


async def accepted_texts(reader: Reader) -> Collection[tuple[str, str]]:
    """The accepted differences, each the order id and the text: they are not reported again."""
    rows = await reader.fetch("SELECT order_id, difference FROM accepted_differences")
    return {(row["order_id"], row["difference"]) for row in rows}
