"""The release gate: a workflow that fails if a version of the workers must not get orders.

It runs on the workers of the version that it is about, before any order does. Temporal's Worker
Controller starts it, if `rollout.gate.workflowType` of the deployment is `ReleaseGate`.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from temporalio import workflow
from temporalio.common import RetryPolicy

from orders.models import StoredModel

RELEASE_GATE = "ReleaseGate"
CHECK_RELEASE = "check_release"
CHECK_TIMEOUT = timedelta(minutes=5)


class GateInput(StoredModel):
    """What to check."""

    sample: int = Field(100, ge=0)
    """The number of open orders to replay."""


class GateReport(StoredModel):
    """What was checked, and found to be in order."""

    replayed: int
    """Open orders."""
    rewritten: int
    """Of those, the ones whose past the version decides otherwise, as its release declares."""


@workflow.defn(name=RELEASE_GATE)
class ReleaseGate:
    """Checks a release by one activity, on a worker of its own version."""

    @workflow.run
    async def run(self, given: GateInput | None = None) -> GateReport:
        """The report; fails with a sentence if the version must not get orders."""
        report: GateReport = await workflow.execute_activity(
            CHECK_RELEASE,
            given or GateInput(),
            result_type=GateReport,
            start_to_close_timeout=CHECK_TIMEOUT,
            retry_policy=RetryPolicy(maximum_attempts=3),
            summary="replay open orders, check migrations and read models",
        )
        return report
