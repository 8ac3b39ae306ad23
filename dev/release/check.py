"""The checks of a release that need no load: what each finds, and what of it is declared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from contracts.declaration import FILE, Declaration, read_declaration
from dev.release.checkouts import CheckoutError, output_of
from dev.release.comparison import Finding, Old, findings, notes, raised_models
from dev.release.describe import Description, Json, Request
from dev.release.golden import newest_histories
from dev.release.migrations import migration_findings, schema_findings
from dev.release.scratch import NewDatabase

RANDOM_ORDERS, BASKETS = 150, 50


class OldVersion(NamedTuple):
    """The version before, and what it has made and decided."""

    checkout: Path
    orders: Path
    """A file of recorded orders."""
    histories: Sequence[Path]
    described: Old
    database: str
    """The address of a database that it has set up, with the events of the orders."""


class Verdict(NamedTuple):
    """What becomes of a release."""

    refused: Sequence[str]
    """A sentence for each reason; none if it may be released."""
    declared: Sequence[str]
    """What it breaks on purpose."""
    notes: Sequence[str]


async def old_version_of(
    checkout: Path, folder: Path, new_database: NewDatabase, recorded: Sequence[Path] = ()
) -> OldVersion:
    """Has a version make orders, and describe itself; raises CheckoutError.

    `recorded` are histories of production.
    """
    histories = [*newest_histories(checkout), *recorded]
    arguments = [str(RANDOM_ORDERS), str(BASKETS), *map(str, histories)]
    orders = folder / "orders.jsonl"
    orders.write_text(orders_in(await output_of(checkout, "dev.release.past", *arguments)))
    request = Request(
        output=folder / "description.json",
        orders=orders,
        dsn=await new_database(),
        histories=list(recorded),  # It replays its golden ones: its own tests say so.
    )
    description = await _described(checkout, request)
    described = _published(checkout, description)
    return OldVersion(checkout, orders, histories, described, request.dsn)


def orders_in(output: str) -> str:
    """The lines of `dev.release.past` that are orders: the rules of a version may print others."""
    lines = output.splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith('{"order_id":'))


class Found(NamedTuple):
    """What a release would break, and what is only to be known."""

    findings: Sequence[Finding]
    notes: Sequence[str]
    raised: Sequence[str]
    """The read models with a new version."""
    is_read_back: bool
    """Whether the version before can read all events of this one."""


async def find(old: OldVersion, checkout: Path, new_database: NewDatabase) -> Found:
    """What a newer version would break; raises CheckoutError."""
    applied, migrated = [await new_database(old.database) for _ in range(2)]
    request = Request(
        output=old.orders.with_name("new_description.json"),
        orders=old.orders,
        dsn=await new_database(),
        histories=list(old.histories),
        written=old.described.description.shapes.get("written", {}),
        old_database=migrated,
    )
    migrations = await migration_findings(applied, old.checkout, checkout)
    try:
        new = await _described(checkout, request)
    except CheckoutError as error:
        if not migrations:
            raise
        if all(finding.migration for finding in migrations):
            # They may be why. No declaration permits that, whatever it says of them.
            migrations.append(Finding("migrations", f"After these migrations, {error}"))
        return Found(migrations, notes=[], raised=[], is_read_back=False)
    migrations += await schema_findings(applied, migrated, request.dsn)
    was = old.described.description
    events = new.shapes["schemas"]["events"].keys() - was.shapes["schemas"]["events"].keys()
    return Found(
        findings=[*findings(old.described, new), *migrations],
        notes=[*notes(old.described, new)],
        raised=[*raised_models(was, new)],
        is_read_back=not events,
    )


def verdict(old: OldVersion, checkout: Path, found: Found) -> Verdict:
    """What becomes of a newer version by its declaration; raises DeclarationError."""
    before, declaration = map(read_declaration, (old.checkout, checkout))
    refused, declared = judged(found.findings, declaration)
    faults = [f"declaration: {fault}" for fault in declaration.faults(before)]
    return Verdict([*faults, *refused], declared, found.notes)


def judged(found: Iterable[Finding], declaration: Declaration) -> tuple[list[str], list[str]]:
    """The sentences that refuse a release, and those of what it declares; pure."""
    refused: list[str] = []
    declared: list[str] = []
    for finding in found:
        sentence = f"{finding.check}: {finding.sentence}"
        if declaration.permits(finding.permit, finding.migration):
            declared.append(sentence)
        else:
            refused.append(f"{sentence}{_way_out(finding)}")
    return refused, declared


def _way_out(finding: Finding) -> str:
    if finding.permit is None:
        return ""
    return f" If that is meant, declare `{finding.permit}` in {FILE}."


async def _described(checkout: Path, request: Request) -> Description:
    await output_of(checkout, "dev.release.describe", given=request.model_dump_json())
    return Description.model_validate_json(request.output.read_text())


def _published(checkout: Path, description: Description) -> Old:
    """A version with the contracts that it has committed."""
    contracts = checkout / "contracts"
    description.shapes = _read(contracts / "stored_shapes.json")
    openapi = _read(contracts / "openapi.json")
    events = {file.stem: _read(file) for file in (contracts / "events").glob("*.json")}
    return Old(description, openapi, events)


def _read(file: Path) -> Json:
    try:
        document: Json = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckoutError(f"{file} cannot be read: {error}.") from None
    return document
