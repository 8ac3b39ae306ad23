"""Orders, builds and namespaces that do not exist: one sentence, and the code of wrong use."""

from __future__ import annotations

import asyncio
import re
import subprocess

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from cli.moving import remaining
from tests.support.processes import UNREACHABLE_DSN, assert_one_sentence, run, run_inside
from workflows.client import health_of

# Their exit code 1 says that they found something.
FINDING = [("versions",), ("stuck",), ("restore", "status"), ("verify",)]
ON_BOTH = [
    *FINDING,
    ("move-orders", "--from", "one"),
    ("repair", "ord_none"),
    ("resume", "ord_none"),
    ("retry-steps",),
]


async def orderly(
    temporal: WorkflowEnvironment, dsn: str, *command: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    address = temporal.client.service_client.config.target_host
    settings = {"TEMPORAL_ADDRESS": address, "ORDERLY_POSTGRES_DSN": dsn, **variables}
    return await asyncio.to_thread(run_inside, *command, **settings)


@pytest.mark.parametrize("command", ["order", "repair", "resume"])
async def test_unknown_order_is_wrong_use(
    temporal: WorkflowEnvironment, dsn: str, command: str
) -> None:
    ended = await orderly(temporal, dsn, command, "ord_none")
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    assert " no " in ended.stderr and "order ord_none." in ended.stderr
    assert_one_sentence(ended.stderr)


@pytest.mark.parametrize("command", ["order", "repair", "resume", "projections retry"])
def test_empty_order_id_is_wrong_use(command: str) -> None:
    ended = run_inside(*command.split(), "", ORDERLY_POSTGRES_DSN=UNREACHABLE_DSN)
    assert ended.returncode == 2, ended
    assert ended.stderr == "orderly: The order id is empty: name an order.\n"


@pytest.mark.parametrize("build", ["none", ""])
async def test_unknown_build_is_wrong_use(
    temporal: WorkflowEnvironment, dsn: str, build: str
) -> None:
    ended = await orderly(temporal, dsn, "move-orders", "--from", build)
    assert ended.returncode == 2, ended
    assert_one_sentence(ended.stderr)
    assert ("is empty" in ended.stderr) == (not build)


@pytest.mark.parametrize("command", ON_BOTH, ids=" ".join)
async def test_unknown_namespace_is_wrong_use(
    temporal: WorkflowEnvironment, dsn: str, command: tuple[str, ...]
) -> None:
    ended = await orderly(temporal, dsn, *command, TEMPORAL_NAMESPACE="none")
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    assert ended.stderr == "orderly: Temporal has no namespace none: set TEMPORAL_NAMESPACE.\n"


@pytest.mark.parametrize("command", ON_BOTH, ids=" ".join)
async def test_unreachable_temporal_is_a_failure(
    temporal: WorkflowEnvironment, dsn: str, command: tuple[str, ...]
) -> None:
    ended = await orderly(temporal, dsn, *command, TEMPORAL_ADDRESS="127.0.0.1:1")
    assert (ended.returncode, ended.stdout) == (2 if command in FINDING else 1, ""), ended
    assert ended.stderr == "orderly: Temporal cannot be reached at 127.0.0.1:1.\n"


async def test_worker_does_not_start_in_an_unknown_namespace(temporal: WorkflowEnvironment) -> None:
    settings = {
        "TEMPORAL_ADDRESS": temporal.client.service_client.config.target_host,
        "TEMPORAL_NAMESPACE": "none",
        "ORDERLY_POSTGRES_DSN": UNREACHABLE_DSN,
    }
    ended = await asyncio.to_thread(run, "worker", **settings)
    assert ended.returncode == 2, ended
    assert "Temporal has no namespace none: set TEMPORAL_NAMESPACE." in ended.stderr


async def test_doctor_names_an_unknown_namespace(temporal: WorkflowEnvironment, dsn: str) -> None:
    ended = await orderly(temporal, dsn, "doctor", TEMPORAL_NAMESPACE="none")
    assert re.search(
        r"^temporal .*no namespace none: set TEMPORAL_NAMESPACE$", ended.stdout, re.MULTILINE
    )


async def test_health_names_an_unknown_namespace(temporal: WorkflowEnvironment) -> None:
    address = temporal.client.service_client.config.target_host
    health = await health_of(await Client.connect(address, namespace="none"))
    assert health == "unreachable: Temporal has no namespace none: set TEMPORAL_NAMESPACE."


def test_orders_that_do_not_move_because_they_fail_are_named_apart() -> None:
    assert list(remaining(["a", "b", "c"], {"b", "d"})) == [
        "2 move once their steps have ended, such as a, c.",
        "1 cannot move, because their workflow tasks fail (see `orderly stuck`), such as b.",
    ]
    assert list(remaining(["a"], set())) == ["1 move once their steps have ended, such as a."]
