"""Says whether this checkout may be released after another version: `make release-check FROM=…`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import runtime
from contracts.declaration import Declaration, DeclarationError
from dev.release.check import Verdict, find, judged, old_version_of, verdict
from dev.release.checkouts import ROOT, CheckoutError, checkout_of
from dev.release.golden import recorded_histories
from dev.release.roll import Release, Version, roll
from dev.release.scratch import scratch_databases
from dev.stack import StackError
from runtime import EXIT_INTERRUPTED, EXIT_USAGE, until_signal


async def main(options: argparse.Namespace) -> int:
    """Prints a sentence for each reason against the release; returns the exit code."""
    with checkout_of(options.version) as old:
        result = await _result(old, options)
    for note in result.notes:
        print(f"note: {note}")
    for sentence in result.declared:
        print(f"declared: {sentence}")
    for sentence in result.refused:
        print(sentence)
    if result.refused:
        return EXIT_USAGE
    print(f"This checkout may be released after {options.version}.")
    return 0


async def _result(checkout: Path, options: argparse.Namespace) -> Verdict:
    """What all checks find; the roll comes last, and only if nothing else is against it."""
    histories = recorded_histories(options.recorded) if options.recorded else []
    with tempfile.TemporaryDirectory(prefix="orderly-release-") as name:
        folder = Path(name)
        with scratch_databases() as new_database:
            _report(f"{options.version} makes orders, and reads them")
            old = await old_version_of(checkout, folder, new_database, histories)
            _report("this checkout reads the same orders")
            found = await find(old, ROOT, new_database)
        result = verdict(old, ROOT, found)
        if result.refused or not options.roll:
            return result
        versions = Version(checkout, "old"), Version(ROOT, "new")
        release = Release(*versions, found.raised, found.is_read_back)
        (folder / "stack").mkdir()
        refused, _ = judged(await roll(release, folder / "stack", _report), Declaration())
        return result._replace(refused=refused)


def _report(stage: str) -> None:
    print(f"{stage} …", file=sys.stderr)


def run() -> None:
    """Runs what the command line says, and exits."""
    parser = argparse.ArgumentParser("python -m dev.release", description=__doc__)
    parser.add_argument(
        "--from", dest="version", required=True, help="a tag, a commit or the folder of a checkout"
    )
    parser.add_argument("--recorded", type=Path, help="folder of histories from `orderly record`")
    parser.add_argument(
        "--no-roll",
        dest="roll",
        action="store_false",
        help="leave out the roll, which takes longest",
    )
    work = until_signal(main(parser.parse_args()), EXIT_INTERRUPTED)
    runtime.run(work, dict.fromkeys((CheckoutError, DeclarationError, StackError), EXIT_USAGE))


if __name__ == "__main__":
    runtime.main(run)
