"""What a release breaks is found by comparing two versions' descriptions of themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from contracts.declaration import Declaration, DeclarationError, read_declaration
from dev.release import check
from dev.release.catalog import Catalog, Column, Part
from dev.release.check import OldVersion, judged
from dev.release.checkouts import CheckoutError, checkout_of
from dev.release.comparison import Finding, Old, findings, notes
from dev.release.describe import Description, ReadModel, Request
from dev.release.golden import newest_histories
from dev.release.migrations import conditional_changes, differences, harms, locks
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


def test_run_that_the_version_before_cannot_replay_either_is_not_rewritten() -> None:
    old, new = description(), description()
    old.diverged = new.diverged = {"ord_1-0": "HistoryDiverged: version 3"}
    assert list(findings(Old(old, OPENAPI, {}), new)) == []
    new.diverged = {**old.diverged, "ord_2-0": "HistoryDiverged: version 7"}
    (finding,) = findings(Old(old, OPENAPI, {}), new)
    assert finding.sentence.startswith("It rewrites 1 of 29 recorded runs, such as ord_2-0: ")


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


@pytest.mark.parametrize("owner", ["HoldOrder", "Discount"])
def test_new_field_elsewhere_hides_no_other_content_of_its_namesake(owner: str) -> None:
    def lose(new: Description) -> None:
        new.shapes["$defs"][owner]["properties"]["quantity"] = {"default": None}
        new.states["one"]["lines"]["a"]["quantity"] = 0

    assert "fold" in {check for check, _, _ in found(lose)}


def test_new_field_of_a_command_hides_no_row_of_a_read_model() -> None:
    old, new = description(), description()
    old.read_models["order_view"].rows[1] = 'skus {"b": 0}'
    new.read_models["order_view"].rows[1] = 'skus {"b": null}'
    new.shapes["$defs"]["HoldOrder"]["properties"]["b"] = {"default": None}
    assert "documents" in {finding.check for finding in findings(Old(old, OPENAPI, {}), new)}


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
    left_over = list(complete.faults(complete))
    assert [sentence.split("`")[1] for sentence in left_over] == ["rewrites", "0010.sql"]
    assert all("as the version before did" in sentence for sentence in left_over)
    renewed = complete.model_copy(update={"rewrites": "6 % off", "migrations": {"0010.sql": "new"}})
    assert list(renewed.faults(complete)) == []
    for content in (b"rewrites = 3", b"rewrites", b'rewrite = "typo"', b'rewrites = "\xff"'):
        file.write_bytes(content)
        with pytest.raises(DeclarationError, match=r"release\.toml"):
            read_declaration(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(DeclarationError, match=r"release\.toml cannot be read: Is a directory\.$"):
        read_declaration(tmp_path)


def test_unknown_version_is_named_in_one_sentence() -> None:
    with pytest.raises(CheckoutError, match="git worktree add fails: "), checkout_of("no-such-tag"):
        pass


def test_contract_that_cannot_be_read_is_named_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / "stored_shapes.json").write_text("<<<<<<< ours")
    with pytest.raises(CheckoutError, match=r"stored_shapes\.json cannot be read: "):
        check._published(tmp_path, description())


def test_checkout_declares_what_can_be_read() -> None:
    read_declaration(ROOT)


BEFORE = Catalog(
    schemas=frozenset({"public", "view"}),
    tables={"log": "", "keys": "", "view.orders": ""},
    columns={
        "log.id": Column("text", is_required=True),
        "log.note": Column("text", is_required=False),
        "log.at": Column("timestamp", is_required=True, default="now()"),
    },
    parts={
        "the index log_id of log": Part("index", "log", "CREATE UNIQUE INDEX ON log (id)"),
        "the constraint log_check of log": Part("constraint", "log", "CHECK (id > 0)", False),
        "the constraint log_keys of log": Part("constraint", "log", "FOREIGN KEY (id)"),
        "the trigger log_trigger of log": Part("trigger", "log", "BEFORE INSERT"),
        "the function f()": Part("function", None, "RETURN 1"),
    },
    files={"the table log": 1, "the index log_id of log": 2},
)


def _with_column(name: str, column: Column) -> Catalog:
    return BEFORE._replace(columns={**BEFORE.columns, name: column})


def _with_part(name: str, part: Part) -> Catalog:
    return BEFORE._replace(parts={**BEFORE.parts, name: part})


def _without(mapping: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}


@pytest.mark.parametrize(
    ("after", "harm"),
    [
        (
            BEFORE._replace(
                schemas=frozenset({"public"}), tables=_without(BEFORE.tables, "view.orders")
            ),
            "drops or renames the schema view",
        ),
        (
            BEFORE._replace(tables=_without(BEFORE.tables, "keys")),
            "drops or renames the table keys",
        ),
        (
            BEFORE._replace(tables={**BEFORE.tables, "keys": "tf"}),
            "changes the row security of the table keys",
        ),
        (
            BEFORE._replace(columns=_without(BEFORE.columns, "log.note")),
            "drops or renames the column log.note",
        ),
        (_with_column("log.id", Column("integer", True)), "changes the type of log.id"),
        (_with_column("log.note", Column("text", True)), "scans the table of log.note for nulls"),
        (_with_column("log.note", Column("text", False, "1")), "changes the default of log.note"),
        (_with_column("log.at", Column("timestamp", True)), "drops the default of log.at"),
        (
            _with_column("log.more", Column("text", True)),
            "adds the column log.more, which the version before does not write",
        ),
        (
            BEFORE._replace(files={"the table log": 3, "the index log_id of log": 4}),
            "rewrites the table log",
        ),
        (
            BEFORE._replace(files={**BEFORE.files, "the index log_id of log": 4}),
            "rewrites the index log_id of log",
        ),
        (_with_part("the index more", Part("index", "keys", "")), "builds an index of the table k"),
        (
            _with_part("the constraint more", Part("constraint", "log", "CHECK (true)")),
            "checks a constraint of the table log",
        ),
        (
            _with_part("the constraint more", Part("constraint", "log", "CHECK (true)", False)),
            "adds the constraint more, which rows that the version before writes may break",
        ),
        (
            _with_part("the reference more", Part("reference", "keys", "FOREIGN KEY (id)")),
            "adds the reference more, which forbids deletions",
        ),
        (_with_part("the trigger more", Part("trigger", "log", "")), "adds the trigger more"),
        (
            _with_part("the index log_id of log", Part("index", "log", "other")),
            "changes the index log_id of log",
        ),
        (_with_part("the function f()", Part("function", None, "")), "changes the function f()"),
        *(
            (BEFORE._replace(parts=_without(BEFORE.parts, name)), f"drops {name}")
            for name in BEFORE.parts
            if name != "the constraint log_check of log"
        ),
    ],
)
def test_harm_of_a_migration_is_named(after: Catalog, harm: str) -> None:
    (named,) = harms(BEFORE, after)
    assert named.startswith(harm)


@pytest.mark.parametrize(
    "after",
    [
        _with_column("log.more", Column("text", False)),
        _with_column("log.more", Column("integer", True, "1")),
        _with_column("log.id", Column("text", True, "'new'")),
        _with_part("the function g()", Part("function", None, "RETURN 2")),
        _with_part(
            "the constraint log_check of log", Part("constraint", "log", "CHECK (id > 0)", True)
        ),
        BEFORE._replace(parts=_without(BEFORE.parts, "the constraint log_check of log")),
        BEFORE._replace(
            tables={**BEFORE.tables, "new": ""},
            columns={**BEFORE.columns, "new.id": Column("text", True)},
            parts={
                **BEFORE.parts,
                "the index new_id of new": Part("index", "new", ""),
                "the constraint new_check of new": Part("constraint", "new", ""),
                "the reference new_keys to keys": Part("reference", "keys", "ON DELETE CASCADE"),
            },
            files={**BEFORE.files, "the table new": 3},
        ),
    ],
)
def test_harmless_migration_is_not(after: Catalog) -> None:
    assert list(harms(BEFORE, after)) == []


def test_written_and_locked_tables_are_named_unless_they_were_altered() -> None:
    altered = _with_column("log.more", Column("text", False))
    held = {
        "keys": frozenset({"RowExclusiveLock"}),
        "log": frozenset({"AccessExclusiveLock"}),
        "new": frozenset({"RowExclusiveLock"}),
        "view.orders": frozenset({"AccessShareLock"}),
    }
    writes, lock = locks(held, BEFORE, BEFORE)
    assert writes.startswith("writes to the table keys")
    assert lock.startswith("locks the table log")
    assert list(locks(held, BEFORE, altered)) == [writes]


@pytest.mark.parametrize(
    "text",
    [
        "DO $$ BEGIN UPDATE log SET id = 1; END $$;",
        "SELECT 1; do language plpgsql $a$ BEGIN Delete FROM log; END $a$",
        "DO 'BEGIN EXECUTE ''UPDATE log''; END'",
    ],
)
def test_block_that_may_change_rows_is_named(text: str) -> None:
    (named,) = conditional_changes(text)
    assert named.startswith("has a DO block with ")


@pytest.mark.parametrize(
    "text",
    [
        "DO $$ BEGIN /* UPDATE */ PERFORM 'DELETE'; -- LOCK\nEND $$;",
        "-- DO $$ BEGIN UPDATE log SET id = 1; END $$;",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $f$ ; DO UPDATE $f$;",
        "INSERT INTO new VALUES (1) ON CONFLICT DO UPDATE SET id = 'UPDATE';",
    ],
)
def test_other_statement_is_no_such_block(text: str) -> None:
    assert list(conditional_changes(text)) == []


def test_difference_between_a_migrated_and_a_new_database_is_named() -> None:
    assert list(differences(BEFORE, BEFORE)) == []
    renamed = _without(BEFORE.columns, "log.at") | {"log.on": BEFORE.columns["log.note"]}
    (only_new,) = differences(BEFORE, BEFORE._replace(columns=renamed))
    assert only_new.startswith("A new database has the column log.on")
    needed = _with_column("log.more", Column("text", True))
    (only_migrated,) = differences(needed, BEFORE)
    assert "still has the column log.more" in only_migrated
    other = _with_part("the trigger log_trigger of log", Part("trigger", "log", "AFTER INSERT"))
    (only_new,) = differences(other, BEFORE)
    assert only_new.startswith("A new database has the trigger log_trigger of log")
    more = _with_part("the trigger more", Part("trigger", "log", ""))
    (only_migrated,) = differences(more, BEFORE)
    assert "still has the trigger more" in only_migrated
    rebuilt = BEFORE._replace(tables=_without(BEFORE.tables, "view.orders"))
    assert list(differences(rebuilt, BEFORE)) == []


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

    async def dsn(_: str | None = None, /) -> str:
        return "postgresql://unused"

    monkeypatch.setattr(check, "_described", cannot)
    monkeypatch.setattr(check, "migration_findings", harm)
    described = Old(description(), OPENAPI, {})
    old = OldVersion(ROOT, ROOT / "orders.jsonl", [], described, "unused")
    found = await check.find(old, ROOT, dsn)
    refused, _ = judged(found.findings, Declaration(migrations={"0100_drops.sql": "small"}))
    reason = "After these migrations, It does not import." if migration else finding.sentence
    assert refused == [f"migrations: {reason}"]


async def test_version_before_replays_what_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[Request] = []

    async def no_orders(*_: object) -> str:
        return ""

    async def describe(_: Path, request: Request) -> Description:
        requested.append(request)
        return description()

    async def dsn(_: str | None = None, /) -> str:
        return "postgresql://unused"

    monkeypatch.setattr(check, "output_of", no_orders)
    monkeypatch.setattr(check, "_described", describe)
    recorded = [tmp_path / "ord_1-0.json"]
    old = await check.old_version_of(ROOT, tmp_path, dsn, recorded)
    assert [request.histories for request in requested] == [recorded]
    assert old.histories == [*newest_histories(ROOT), *recorded]
