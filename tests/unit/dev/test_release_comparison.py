"""What a release breaks is found by comparing two versions' descriptions of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts.declaration import Declaration, DeclarationError, read_declaration
from dev.release import check
from dev.release.check import Past, judged
from dev.release.checkouts import CheckoutError, checkout_of
from dev.release.comparison import Finding, Old, findings, notes
from dev.release.describe import Description, ReadModel
from dev.release.migrations import Catalog, Column, harms
from dev.release.past import random_orders
from orders.evolve import fold
from orders.upcasting import restore
from tests.support.paths import ROOT

SHAPES: dict[str, Any] = json.loads((ROOT / "contracts" / "stored_shapes.json").read_text())
ROWS = ['orders {"a": 1}', 'skus {"b": 2}']
OPENAPI: dict[str, Any] = {"paths": {}, "components": {"schemas": {}}}


def description() -> Description:
    """A version with two orders."""
    return Description(
        shapes=json.loads(json.dumps(SHAPES)),
        openapi=OPENAPI,
        event_schemas={},
        states={"one": {"status": "draft", "lines": {"a": {"quantity": 1}}}, "two": {"total": 3}},
        unreadable={},
        read_models={
            "order_view": ReadModel(version=4, rows=['orders {"a": 1}', 'skus {"b": 2}'], parked={})
        },
        replayed=30,
        redecided=2,
    )


def found(edit: Callable[[Description], object]) -> list[tuple[str, str, str | None]]:
    new = description()
    edit(new)
    old = Old(description(), OPENAPI, {})
    return [(f.check, f.sentence, f.permit) for f in findings(old, new)]


def test_same_version_breaks_nothing() -> None:
    assert found(lambda new: None) == []


def test_rewritten_past_is_counted_and_may_be_declared() -> None:
    def rewrite(new: Description) -> None:
        new.diverged = {"golden-1": "HistoryDiverged: version 3"}
        new.rewritten = {"ord_2": "place-order would cause nothing instead of order-placed"}

    assert found(rewrite) == [
        (
            "past",
            (
                "It rewrites 1 of 30 recorded runs and 1 of 2 recorded orders, such as golden-1:"
                " HistoryDiverged: version 3."
            ),
            "rewrites",
        )
    ]


def test_other_state_of_the_same_events_is_refused_unless_a_version_was_raised() -> None:
    def lose(new: Description) -> None:
        new.states["one"]["lines"] = {}

    ((check, sentence, permit),) = found(lose)
    assert (check, permit) == ("fold", None)
    assert sentence.startswith("1 recorded order fold to another state, such as one: lines:")

    def lose_and_raise(new: Description) -> None:
        lose(new)
        new.shapes["state_version"] += 1

    assert found(lose_and_raise) == []


def test_new_and_renamed_fields_of_the_state_are_left_to_its_shapes() -> None:
    def rename(new: Description) -> None:
        fields = new.shapes["$defs"]["Line"]["properties"]
        fields["pieces"] = fields.pop("quantity")
        new.states["one"]["lines"] = {"a": {"pieces": 1}}

    assert {check for check, _, _ in found(rename)} == {"shapes"}


def test_unreadable_event_is_refused() -> None:
    def forget(new: Description) -> None:
        new.unreadable["two"] = "gift-set is not a known event"

    ((check, sentence, _),) = found(forget)
    assert (check, "two: gift-set is not a known event" in sentence) == ("fold", True)


def test_other_rows_of_a_read_model_are_refused_unless_its_version_was_raised() -> None:
    def change(new: Description) -> None:
        new.read_models["order_view"].rows[0] = 'orders {"a": 2}'

    assert [check for check, _, _ in found(change)] == ["documents"]

    def change_and_raise(new: Description) -> None:
        change(new)
        new.read_models["order_view"].version = 5

    assert found(change_and_raise) == []
    new = description()
    change_and_raise(new)
    assert list(notes(Old(description(), OPENAPI, {}), new)) == [
        "read model order_view has a new version: prepare it before you deploy the readers."
    ]


def test_order_that_cannot_be_projected_is_refused() -> None:
    def park(new: Description) -> None:
        new.read_models["order_view"].parked["one"] = "a bug"

    ((check, sentence, _),) = found(park)
    assert check == "documents"
    assert "cannot be projected to order_view, such as one: a bug" in sentence


def test_finding_is_refused_unless_it_is_declared() -> None:
    past = Finding("past", "It rewrites all.", "rewrites")
    lock = Finding("migrations", "It locks.", migration="0010.sql")
    lost = Finding("shapes", "It is lost.")
    refused, declared = judged([past, lock, lost], Declaration())
    assert declared == []
    assert refused == [
        "past: It rewrites all. If that is meant, declare `rewrites` in contracts/release.toml.",
        "migrations: It locks.",
        "shapes: It is lost.",
    ]
    permitting = Declaration(rewrites="5 % off", migrations={"0010.sql": "small"})
    assert judged([past, lock, lost], permitting) == (
        ["shapes: It is lost."],
        ["past: It rewrites all.", "migrations: It locks."],
    )


def test_declaration_demands_versioned_workers_and_is_not_left_over(tmp_path: Path) -> None:
    (tmp_path / "contracts").mkdir()
    file = tmp_path / "contracts" / "release.toml"
    assert read_declaration(tmp_path) == Declaration()
    file.write_text('rewrites = "5 % off"\n[migrations]\n"0010.sql" = "small"\n')
    declared = read_declaration(tmp_path)
    (fault,) = declared.faults(Declaration())
    assert 'declare `workers = "versioned"`' in fault
    complete = declared.model_copy(update={"workers": "versioned"})
    assert list(complete.faults(Declaration())) == []
    (left_over,) = complete.faults(complete)
    assert "as the version before did" in left_over
    for text in ("rewrites = 3", "rewrites", 'rewrite = "typo"'):
        file.write_text(text)
        with pytest.raises(DeclarationError, match=r"release\.toml"):
            read_declaration(tmp_path)


def test_unknown_version_is_named_in_one_sentence() -> None:
    with pytest.raises(CheckoutError, match="git worktree add fails: "), checkout_of("no-such-tag"):
        pass


def test_checkout_declares_what_can_be_read() -> None:
    read_declaration(ROOT)


BEFORE = Catalog(
    tables={"log": 1, "keys": 2},
    columns={"log.id": Column("bigint", True, False), "log.note": Column("text", False, False)},
    indexes={"log_id": "log"},
    checks={"log_check": "log"},
    others=frozenset({"the function f"}),
)


@pytest.mark.parametrize(
    ("change", "harm"),
    [
        ({"tables": {"log": 1}}, "drops or renames the table keys"),
        ({"columns": {"log.id": BEFORE.columns["log.id"]}}, "drops or renames the column log.note"),
        (
            {"columns": {**BEFORE.columns, "log.id": Column("text", True, False)}},
            "changes the type of log.id",
        ),
        (
            {"columns": {**BEFORE.columns, "log.note": Column("text", True, False)}},
            "scans the table of log.note for nulls",
        ),
        (
            {"columns": {**BEFORE.columns, "log.more": Column("text", True, False)}},
            "adds the column log.more, which the version before does not write",
        ),
        ({"tables": {"log": 3, "keys": 2}}, "rewrites the table log"),
        ({"indexes": {**BEFORE.indexes, "more": "keys"}}, "builds an index of the table keys"),
        ({"checks": {**BEFORE.checks, "more": "log"}}, "checks a constraint of the table log"),
        ({"indexes": {}}, "drops the index log_id"),
        ({"others": frozenset[str]()}, "drops the function f"),
    ],
)
def test_harm_of_a_migration_is_named(change: dict[str, Any], harm: str) -> None:
    (named,) = harms(BEFORE, BEFORE._replace(**change))
    assert named.startswith(harm)


@pytest.mark.parametrize(
    "change",
    [
        {"columns": {**BEFORE.columns, "log.more": Column("text", False, False)}},
        {"columns": {**BEFORE.columns, "log.more": Column("integer", True, True)}},
        {
            "tables": {**BEFORE.tables, "new": 3},
            "columns": {**BEFORE.columns, "new.id": Column("text", True, False)},
            "indexes": {**BEFORE.indexes, "new_id": "new"},
            "checks": {**BEFORE.checks, "new_check": "new"},
        },
    ],
)
def test_harmless_migration_is_not(change: dict[str, Any]) -> None:
    assert list(harms(BEFORE, BEFORE._replace(**change))) == []


def test_recorded_random_orders_are_the_same_each_time_and_fold() -> None:
    first, again = list(random_orders(3)), list(random_orders(3))
    assert first == again
    for order in first:
        assert fold(restore(*fact) for fact in order.events).version == len(order.events) > 0
    whole, younger, *others = first
    assert younger.inputs == whole.inputs[: len(younger.inputs)] != whole.inputs
    assert all(len(order.events) > 10 for order in (whole, *others))


@pytest.mark.parametrize("migration", [None, "0100_drops.sql"])
async def test_version_that_cannot_be_described_passes_by_no_declared_migration(
    migration: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = Finding("migrations", "It does harm.", migration=migration)

    async def cannot(*_: object) -> Description:
        raise CheckoutError("It does not import.")

    async def harm(*_: object) -> list[Finding]:
        return [finding]

    async def dsn() -> str:
        return "postgresql://unused"

    monkeypatch.setattr(check, "_described", cannot)
    monkeypatch.setattr(check, "migration_findings", harm)
    past = Past(ROOT, ROOT / "orders.jsonl", [], Old(description(), OPENAPI, {}))
    if migration is None:  # Nothing permits it.
        assert list((await check.find(past, ROOT, dsn)).findings) == [finding]
    else:
        with pytest.raises(CheckoutError):
            await check.find(past, ROOT, dsn)
