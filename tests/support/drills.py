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
