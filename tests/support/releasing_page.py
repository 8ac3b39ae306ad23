"""The examples of docs/releasing.md: what each changes and declares."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.support.next_version import Edit
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "releasing.md"
_CODE = r"\n\n```python\n(.*?)```"
_EDIT = re.compile(rf"in (?:`(\S+)`|the same file)(?: make)?{_CODE}\n\ninto{_CODE}", re.DOTALL)
_DECLARATION = re.compile(r"```toml\n(.*?)```", re.DOTALL)


class Example(NamedTuple):
    """One example of a change."""

    subject: str
    """What it changes, as in "a rule"."""
    edits: list[Edit]
    declaration: str
    """TOML; empty if nothing has to be declared."""


def examples() -> list[Example]:
    """All examples of the page, in order."""
    page = PAGE.read_text()
    changes = page[page.index("## How to change …\n") :]
    return [_example(section) for section in changes.split("\n### … ")[1:]]


def _example(section: str) -> Example:
    subject, _, text = section.partition("\n")
    text = re.sub(r"\n(?=`\S+` make)", " ", text.split("\n## ")[0])
    edits, file = list[Edit](), ""
    for named, old, new in _EDIT.findall(text):
        file = named or file
        edits.append(Edit(file, old, new))
    declared = _DECLARATION.search(text)
    return Example(subject, edits, declared[1] if declared else "")
