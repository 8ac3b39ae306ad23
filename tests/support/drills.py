"""Which alerts the drills make fire, and why they leave out the others."""

from __future__ import annotations

DRILLS: dict[str, set[str]] = {
    "no API": {"OrderlyApiDown", "OrderlyProcessDown"},
    "no worker": {
        "OrderlyNoWorkers",
        "OrderlyVersionWithoutWorkers",
        "OrderlyCommandsNotReady",
        "OrderlyProcessDown",
    },
    "no projector": {"OrderlyReadsNotReady", "OrderlyReadsLate", "OrderlyProcessDown"},
    "no deliverer": {"OrderlyNoDeliverer", "OrderlyProcessDown"},
    "no Postgres": {
        "OrderlyPostgresUnavailable",
        "OrderlyReadsNotReady",
        "OrderlyRequestsFailing",
    },
    "a locked log": {"OrderlyOrdersUnpublished"},
    "no Temporal": {"OrderlyTemporalUnavailable", "OrderlyCommandsNotReady"},
    "no services": {"OrderlyServiceFailing", "OrderlyOrdersWaiting"},
    "forged callbacks": {"OrderlyCallbacksRefused"},
    "an open transaction": {"OrderlyTransactionOpen"},
    "a gap in the log": {"OrderlyOrdersParked"},
    "a terminated workflow": {"OrderlyOrdersOrphaned"},
    "a webhook endpoint that is away": {"OrderlyWebhookEndpointDown"},
}
"""The alerts that must fire, by drill; others may fire, too."""

ROUNDS = [
    ["no deliverer", "no worker"],
    ["no API"],
    ["no projector"],
    ["no Postgres"],
    ["a locked log"],
    ["an open transaction", "no Temporal"],
    [
        "a terminated workflow",
        "a webhook endpoint that is away",
        "a gap in the log",
        "forged callbacks",
        "no services",
    ],
]
"""What is staged at the same time, in the order in which it begins."""

_DIES = "integration/workflows/test_exactly_once.py"
_KILLED = "system/test_kill_between_steps.py"
CAUSED_BY: dict[str, tuple[str, ...]] = {
    "The API dies before it sent the update": ("no API", "system/test_chaos.py"),
    "The API dies after it sent the update": ("no API", _DIES),
    "No worker is running, or all are frozen": ("no worker", "system/test_outages.py"),
    "The worker dies before the task is committed": ("no worker", _KILLED),
    "The worker dies while publishing": ("a locked log", "system/test_chaos.py"),
    "The worker dies between two steps": ("no worker", _KILLED),
    "Postgres is unavailable": ("no Postgres", "a locked log"),
    "A projector dies": ("no projector", "integration/readside/test_projector_faults.py"),
    "The log has a gap or an unreadable event": ("a gap in the log",),
    "A projection has a bug": ("integration/readside/test_projector.py",),
    "A service is down or hangs": ("no services", "integration/workflows/test_service_faults.py"),
    "A payment succeeds but the response is lost": (
        "integration/workflows/test_service_faults.py",
    ),
    "Load exceeds capacity": ("integration/api/test_load_shedding.py",),
    "Temporal is unavailable or hangs": ("no Temporal", "system/test_outages.py"),
    "The token issuer is unavailable": ("integration/api/test_tokens.py",),
    "A callback arrives first, twice or late": ("integration/api/test_callbacks.py",),
    "A cancellation races with a shipment": ("integration/workflows/test_races.py",),
    "A rule changes under an open order": ("integration/workflows/test_durable_shell.py",),
    "A person terminates or deletes an order's workflow": ("a terminated workflow",),
    "Postgres or Temporal is restored to an earlier time": ("system/test_restore_drills.py",),
    "A person cancels an order's workflow in Temporal": (
        "integration/workflows/test_cancellation_requests.py",
    ),
    "An order has ended": ("integration/workflows/test_reopening.py",),
    "A certificate expires": ("integration/cli/test_tls.py",),
    "A webhook endpoint is unavailable or slow": ("a webhook endpoint that is away",),
    "A deliverer dies": ("no deliverer", "integration/outbound/test_deliverer_faults.py"),
    "A message broker or its relay is unavailable": ("integration/outbound/test_relay.py",),
    "A disk is full": ("system/test_full_disk.py",),
    "A password is changed at one side only": ("integration/cli/test_order_story.py",),
    "A clock is minutes off": ("integration/api/test_callbacks.py",),
    "A collector of traces and metrics is unavailable": ("unit/test_telemetry.py",),
    "A feed consumer dies or is slow": ("system/test_consumer_example.py",),
}
"""The drills, or other tests, that cause each failure of docs/architecture.md."""

NOT_DRILLED = {
    "OrderlyCertificateExpires": "the embedded stack has no TLS",
    "OrderlyBug": "no failure from outside causes it",
    "OrderlyTokenKeysUnavailable": "the embedded stack has no token issuer",
    "OrderlyOrdersFailing": "it takes another version of the rules",
    "OrderlyOrphanCheckLate": "it takes an hour",
    "OrderlyTasksWaitForWorkers": "it takes more load than a test may make",
    "OrderlyDeadlinesLate": "deadlines of orders are a day at least",
    "OrderlyProjectionStopped": "it takes another version of a projection, or a bug in it",
    "OrderlyAddressesUnreadable": "it takes a restore from an old backup",
    "OrderlyIntentsDropped": "it takes more rejections than a test may make",
    "OrderlyWebhooksLate": "it takes five minutes",
    "OrderlyWebhookOrdersParked": "it takes three days of rejected attempts",
    "OrderlyRelayLate": "the embedded stack has no message broker",
}
"""Each is tested by promtool alone, for this reason."""
