"""The commands of docs/releasing.md exist, with their options."""

from __future__ import annotations

import re
import shlex
from typing import Any

import typer

from cli.main import app
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "releasing.md").read_text()


def named_commands() -> list[str]:
    """Each `orderly …` in the text, and each line of its shell blocks."""
    spans = re.findall(r"`(orderly [^`]+)`", PAGE)
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [*spans, *(line for line in lines if line.startswith("orderly "))]


def test_named_commands_and_options_exist() -> None:
    assert len(named_commands()) > 10
    for line in named_commands():
        command: Any = typer.main.get_command(app)
        for word in shlex.split(line)[1:]:
            subcommands = getattr(command, "commands", None)
            if word.startswith("--"):
                options = {option for parameter in command.params for option in parameter.opts}
                assert word in options, line
            elif subcommands is not None:
                assert word in subcommands, line
                command = subcommands[word]
        assert not hasattr(command, "commands"), line
