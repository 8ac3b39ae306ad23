"""Places the demo's baskets, and rehearses them under changed rules: `make rehearse-demo`."""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import runtime
from dev.demo import replay
from dev.demo.baskets import PACKAGED_BASKETS, read_baskets
from dev.demo.rule_changes import ROOT, RULE_CHANGES
from dev.stack import ProgressDisplay, StackError, StackOptions, run_stack
from rehearsal.recorded import Selection
from rehearsal.report import Report
from rehearsal.report_text import sentences
from rehearsal.run import rehearse

PAGE = ROOT / "docs" / "rehearsal.md"
_BLOCK = re.compile(r"(<!-- Written by `make rehearse-demo`. -->\n```text\n).*?(```\n)", re.DOTALL)
_VARYING = re.compile(r": ([\d,]+) decisions in .*")


async def reports(dsn: str) -> AsyncIterator[tuple[str, Report]]:
    """By its title, the report on these rules and on each changed one."""
    yield "The same rules", await rehearse(dsn, ROOT, Selection())
    for change in RULE_CHANGES:
        with tempfile.TemporaryDirectory(prefix="orderly-rules-") as folder:
            directory = change.checkout(Path(folder) / "next")
            yield change.title, await rehearse(dsn, directory, Selection())


def as_text(title: str, report: Report) -> str:
    """A report as the page has it: without what depends on the machine."""
    lines = [_VARYING.sub(r": \1 decisions.", line) for line in sentences(report, "../next")]
    return "\n".join([f"=== {title}", *lines])


async def main(count: int, *, is_written: bool) -> int:
    """Prints the reports, and writes them into the page; returns the exit code."""
    baskets = read_baskets(PACKAGED_BASKETS, count)
    texts: list[str] = []
    with tempfile.TemporaryDirectory(prefix="orderly-demo-") as data_dir:
        options = StackOptions(Path(data_dir), 0, 0, 0)
        async with run_stack(options, ProgressDisplay().report) as stack:
            code = await replay.run(stack, baskets, is_kept=False)
            async for title, report in reports(stack.postgres_dsn):
                texts.append(as_text(title, report))
                print(f"\n{texts[-1]}\n  {report.cpu_seconds:.1f} s of processor time")
    if is_written:
        write(texts)
    return code


def write(texts: Sequence[str]) -> None:
    """Replaces the example in the page."""
    block = "\n\n".join(texts) + "\n"
    PAGE.write_text(_BLOCK.sub(lambda match: match[1] + block + match[2], PAGE.read_text()))


def run() -> None:
    parser = argparse.ArgumentParser("python -m dev.demo.rehearse", description=__doc__)
    parser.add_argument("--baskets", type=int, default=1_000, help="how many of them")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}")
    options = parser.parse_args()
    work = main(options.baskets, is_written=options.write)
    runtime.run(
        runtime.until_signal(work, runtime.EXIT_INTERRUPTED), {StackError: runtime.EXIT_FAILED}
    )


if __name__ == "__main__":
    runtime.main(run)
