"""Each story plays to its end on real servers, and tells what it is about."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import main as cli
from dev.scenarios.play import addresses, play
from dev.scenarios.scenarios import STORIES
from dev.scenarios.shop import StoryError
from runtime import EXIT_USAGE
from tests.support.servers import Running
from tests.support.shop import Sale, Shop

TELLING = {
    "happy-path": "shipment delivered",
    "split-shipment": "WEST",
    "declined-card": "payment retried",
    "shortfall": "shortfall accepted",
    "amendment": "order amended",
    "partial-refund": "1.00 USD refunded",
    "return": "return received",
    "stuck-step": "step retried",
}


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_is_told_to_its_end_and_the_books_agree(orderly: Running, name: str) -> None:
    told: list[str] = []
    stack = {
        "api_url": str(orderly.http.base_url),
        "simulators_url": str(orderly.simulators.base_url),
        "temporal_ui_url": "http://127.0.0.1:8233",
    }
    await play(name, stack, told.append)
    assert TELLING[name] in "\n".join(told)
    order_id = told[-1].rsplit("/", 1)[1]
    await Sale(Shop(orderly.http, orderly.simulators), order_id).assert_books_agree()


def test_the_stories_are_listed() -> None:
    listed = CliRunner().invoke(cli.app, ["story"])
    assert listed.exit_code == 0
    assert all(name in listed.stdout for name in STORIES)


def test_a_story_that_nobody_knows_is_refused() -> None:
    unknown = CliRunner().invoke(cli.app, ["story", "happy-end"])
    assert unknown.exit_code == EXIT_USAGE
    assert "There is no story happy-end" in unknown.stderr


def test_without_a_running_stack_one_is_told_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(StoryError, match="make up"):
        addresses(tmp_path / "stack.json")
