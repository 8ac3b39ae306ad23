"""The report of a run: figures, the time to recover, and every complaint."""

from __future__ import annotations

from collections import Counter
from statistics import median

from rich.console import Console
from rich.table import Table

from dev.chaos.checker import commands_of
from dev.chaos.run import Result

COMPLAINTS = {
    "lost": "acknowledged, and lost",
    "twice": "done twice",
    "phantom": "done, and never sent or rejected",
    "answer": "answered in two ways",
    "gap": "feed gaps",
    "webhook": "webhooks missing, out of order or made up",
    "message": "messages missing, out of order or made up",
    "stale": "stale reads",
    "cents": "cents off",
    "pieces": "pieces off",
    "shipments": "shipments off",
    "stuck": "stuck",
    "5xx": "HTTP 5xx other than 503",
    "status": "other unexpected responses",
    "verify": "differences in `orderly verify`",
    "replay": "histories that do not replay",
}
SHOWN_MAX = 20


def figures(result: Result) -> dict[str, int]:
    """The numbers of the report, by what they count."""
    commands = commands_of(result.history).values()
    sizes: Counter[str] = Counter()
    for complaint in result.complaints:
        sizes[complaint.kind] += complaint.size
    return {
        "commands": len(commands),
        "attempts": sum(bool(attempt.key) for attempt in result.history.attempts),
        "acknowledged": sum(bool(command.results) for command in commands),
        "sent again at the end": result.sent_again,
        "orders": len(result.history.orders),
        "events": len(result.history.feed),
        "webhooks accepted": len(result.history.webhooks),
        "messages at NATS": len(result.history.messages),
        "runs of workflows, replayed": sum(result.history.runs.values()),
        "faults": len(result.strikes),
        **{title: sizes[kind] for kind, title in COMPLAINTS.items()},
    }


def show(console: Console, result: Result) -> None:
    """Prints the report."""
    counts = Table("", "", show_header=False)
    for name, number in figures(result).items():
        counts.add_row(name, f"{number:,}")
    console.print(counts)
    faults = Table("Fault", "times", "recovered after, median s", "at most s")
    kinds = Counter(f"{s.fault.kind} {s.fault.target}" for s in result.strikes)
    for kind, times in sorted(kinds.items()):
        measured = [
            s.recovery_s
            for s in result.strikes
            if f"{s.fault.kind} {s.fault.target}" == kind and s.recovery_s is not None
        ]
        shown = [f"{median(measured):.1f}", f"{max(measured):.1f}"] if measured else ["", ""]
        faults.add_row(kind, str(times), *shown)
    console.print(faults)
    console.print(f"Everything had settled {result.settled_s:.1f} s after the last fault.")
    for complaint in result.complaints[:SHOWN_MAX]:
        console.print(f"{complaint.kind}: {complaint.subject}: {complaint.detail}", markup=False)
