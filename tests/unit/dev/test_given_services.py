"""`orderly up --payments-url`: a service of one's own instead of its simulator."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from dev.stack import programs
from dev.stack.programs import Addresses

OWN = "https://payments.internal"
ADDRESSES = Addresses(
    *("http://127.0.0.1:1", "127.0.0.1:2", "default", "orders", "", "postgresql://x"),
    "http://127.0.0.1:3",
    service_urls={"payments": OWN},
)


def test_worker_calls_the_given_service_and_the_other_simulators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORDERLY_PAYMENTS_TOKEN", "t0ken")
    monkeypatch.setenv("ORDERLY_TOKEN_SECRET", "of a server elsewhere")
    worker = programs.orderly_process(ADDRESSES, Path("logs"), "worker", "worker")
    given = {name: value for name, value in worker.environment.items() if "ORDERLY_" in name}
    assert given["ORDERLY_PAYMENTS_URL"] == OWN
    assert given["ORDERLY_STOCK_URL"] == "http://127.0.0.1:3/stock"
    assert given["ORDERLY_SHIPPING_URL"] == "http://127.0.0.1:3/shipping"
    assert given["ORDERLY_PAYMENTS_TOKEN"] == "t0ken"
    assert "ORDERLY_TOKEN_SECRET" not in given


def test_malformed_url_starts_nothing() -> None:
    ended = CliRunner().invoke(app, ["up", "--stock-url", "stock.internal"])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "--stock-url must be a URL such as https://stock.internal, not" in ended.stderr
