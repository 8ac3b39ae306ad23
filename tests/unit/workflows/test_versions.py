"""Which versions of the workers need attention."""

from __future__ import annotations

from typing import cast

import pytest
from temporalio.api.deployment.v1 import (
    RoutingConfig,
    WorkerDeploymentInfo,
    WorkerDeploymentVersion,
)
from temporalio.api.enums.v1 import WorkerDeploymentVersionStatus as Status
from temporalio.client import Client

from admin.readiness import OK
from api.monitoring.readiness import NO_CURRENT_VERSION, state_of_workers
from workflows import versions
from workflows.versions import Version, without_current
from workflows.worker_heartbeats import UNVERSIONED, Workers


def version(name: str, role: str, orders: int, workers: int | None) -> Version:
    return Version(name, role, 0.0, orders, workers)


class HeardOf(Workers):
    """Workers of which some are present."""

    def __init__(self, workers: int) -> None:
        super().__init__(cast(Client, None), "orders")
        self._workers = workers

    def present(self) -> int:
        return self._workers

    def silence_seconds(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("role", "orders", "workers", "is_deserted"),
    [
        ("current", 0, 0, True),
        ("ramping", 0, 0, True),
        ("draining", 3, 0, True),
        ("draining", 0, 0, False),
        ("draining", 3, 1, False),
        ("draining", 3, None, False),
    ],
)
def test_version_is_deserted_if_it_has_orders_or_gets_some_and_no_worker(
    role: str, orders: int, workers: int | None, is_deserted: bool
) -> None:
    assert version("o:1", role, orders, workers).is_deserted is is_deserted


def test_workers_of_which_no_version_is_current_get_no_orders() -> None:
    inactive = version("o:1", "inactive", 0, 1)
    assert without_current([inactive])
    assert not without_current([inactive, version("o:2", "current", 0, 1)])
    assert not without_current([inactive, version(UNVERSIONED, "", 0, 1)])
    assert not without_current([])


def test_commands_need_workers_of_the_current_version() -> None:
    old = version("o:1", "draining", 3, 1)
    assert state_of_workers(HeardOf(1), [old, version("o:2", "current", 0, 1)]).words == OK
    deserted = state_of_workers(HeardOf(1), [old, version("o:2", "current", 0, 0)])
    assert deserted == ("no worker of the current version o:2", False)
    assert state_of_workers(HeardOf(1), [old]) == (NO_CURRENT_VERSION, False)
    assert state_of_workers(HeardOf(1), []).is_serving


async def test_role_follows_from_the_routing_before_temporal_changes_the_status(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`a` was current, to which `b` was rolled back; `c` ramps, after `d`."""

    async def count(*_: object) -> int:
        return 1

    def build(build_id: str) -> WorkerDeploymentVersion:
        return WorkerDeploymentVersion(deployment_name="o", build_id=build_id)

    statuses = {
        "a": Status.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT,
        "b": Status.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED,
        "c": Status.WORKER_DEPLOYMENT_VERSION_STATUS_INACTIVE,
        "d": Status.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING,
    }
    summary = WorkerDeploymentInfo.WorkerDeploymentVersionSummary
    deployment = WorkerDeploymentInfo(
        name="o",
        version_summaries=[
            summary(deployment_version=build(build_id), status=status)
            for build_id, status in statuses.items()
        ],
        routing_config=RoutingConfig(
            current_deployment_version=build("b"),
            ramping_deployment_version=build("c"),
            ramping_version_percentage=10,
        ),
    )
    monkeypatch.setattr(versions, "_count_orders", count)
    assert await versions._versions(cast(Client, None), "orders", deployment, {}) == [
        Version("o:a", "draining", 0.0, 1, 0),
        Version("o:b", "current", 0.0, 1, 0),
        Version("o:c", "ramping", 10.0, 1, 0),
        Version("o:d", "draining", 0.0, 1, 0),
    ]
