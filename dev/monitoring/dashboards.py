"""The dashboards of orderly: for the business, for its developers, and for who is on call.

The state of the service is the same from each API process: `max`. What a process counts: `sum`.
"""

from __future__ import annotations

from dev.monitoring.panels import Dashboard, Panel


def _percentile(share: float, histogram: str, by: str = "", where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    rate = f"rate({histogram}_bucket{where}[5m])"
    return f"histogram_quantile({share}, sum by ({labels}) ({rate}))"


def _percentiles(histogram: str, where: str = "") -> dict[str, str]:
    shares = {"median": 0.5, "95 %": 0.95, "99 %": 0.99}
    return {name: _percentile(share, histogram, where=where) for name, share in shares.items()}


def _today(metric: str, label: str) -> str:
    return f"max by ({label}, currency) ({metric})"


def _per_hour(metric: str, label: str) -> str:
    return f"max by ({label}, currency) (increase({metric}[1h]))"


_REQUESTS = "orderly_http_request_duration_seconds"
_STEPS = "orderly_step_duration_seconds"
_COMMANDS = '{method="POST", route=~"/v1/orders.*"}'
_READS = '{method="GET", route=~"/v1/orders.*"}'

BUSINESS = Dashboard(
    "orderly-business",
    "Orderly: business",
    "What is sold and open, and whom orders wait for. Days are in UTC, amounts in minor units.",
    {
        "Today": [
            Panel(
                "Orders placed today",
                {"{{currency}}": _today('orderly_orders_total{stage="placed"}', "stage")},
                is_number=True,
            ),
            Panel(
                "Money today",
                {"{{kind}} {{currency}}": _today("orderly_money_minor_units_total", "kind")},
                is_number=True,
            ),
            Panel(
                "Orders that wait for a service",
                {"": "sum(max by (service, reason) (orderly_waiting_orders))"},
                is_number=True,
                red_from=1,
            ),
        ],
        "Orders": [
            Panel(
                "Open orders by status",
                {"{{status}}": "max by (status) (orderly_open_orders)"},
            ),
            Panel(
                "Orders per hour that reach a stage",
                {"{{stage}} {{currency}}": _per_hour("orderly_orders_total", "stage")},
            ),
            Panel(
                "Money per hour",
                {"{{kind}} {{currency}}": _per_hour("orderly_money_minor_units_total", "kind")},
            ),
        ],
        "Whom orders wait for": [
            Panel(
                "Waiting orders by service and reason",
                {"{{service}} {{reason}}": "max by (service, reason) (orderly_waiting_orders)"},
            ),
            Panel(
                "Calls of services by outcome",
                {
                    "{{service}} {{outcome}}": "sum by (service, outcome)"
                    f" (rate({_STEPS}_count[5m]))"
                },
                "reqps",
            ),
            Panel(
                "Callbacks by service and outcome",
                {
                    "{{service}} {{outcome}}": "sum by (service, outcome)"
                    " (rate(orderly_callbacks_total[5m]))"
                },
                "reqps",
            ),
        ],
        "What callers ask for": [
            Panel(
                "Commands by type",
                {"{{type}}": "sum by (type) (rate(orderly_commands_total[5m]))"},
                "reqps",
            ),
            Panel(
                "Rejections by code",
                {"{{code}}": "sum by (code) (rate(orderly_rejections_total[5m]))"},
                "reqps",
            ),
        ],
    },
    since="now-24h",
)

SERVICE = Dashboard(
    "orderly-service",
    "Orderly: service",
    "How much each part does, how long it takes, and what it needs.",
    {
        "Requests": [
            Panel(
                "Requests by status",
                {"{{status}}": f"sum by (status) (rate({_REQUESTS}_count[5m]))"},
                "reqps",
            ),
            Panel(
                "Duration of commands", _percentiles(_REQUESTS, _COMMANDS), "s", has_exemplars=True
            ),
            Panel("Duration of reads", _percentiles(_REQUESTS, _READS), "s", has_exemplars=True),
            Panel(
                "Commands by outcome",
                {"{{outcome}}": "sum by (outcome) (rate(orderly_commands_total[5m]))"},
                "reqps",
            ),
            Panel(
                "Errors by code",
                {"{{code}}": "sum by (code) (rate(orderly_problems_total[5m]))"},
                "reqps",
            ),
        ],
        "Workers": [
            Panel(
                "Wait of a workflow task for a worker",
                _percentiles("temporal_workflow_task_schedule_to_start_latency_seconds"),
                "s",
            ),
            Panel(
                "Duration of calls of services, 95 %",
                {"{{service}}": _percentile(0.95, _STEPS, "service")},
                "s",
                has_exemplars=True,
            ),
            Panel(
                "Orders in memory",
                {"{{instance}}": "sum by (instance) (temporal_sticky_cache_size)"},
            ),
            Panel(
                "Orders by version of the workers",
                {"{{version}}": "max by (version) (orderly_version_orders)"},
            ),
        ],
        "Read models": [
            Panel(
                "From decision to read model, 95 %",
                {
                    "{{projection}}": "histogram_quantile(0.95, max by (le, projection)"
                    " (rate(orderly_projection_freshness_seconds_bucket[5m])))"
                },
                "s",
            ),
            Panel(
                "Oldest event that is not projected",
                {"{{projection}}": "max by (projection) (orderly_projection_lag_seconds)"},
                "s",
            ),
            Panel(
                "Events projected",
                {
                    "{{projection}}": "sum by (projection)"
                    " (rate(orderly_projected_events_total[5m]))"
                },
                "short",
            ),
        ],
        "Webhooks and message brokers": [
            Panel(
                "Oldest event that an endpoint was not offered",
                {"{{endpoint}}": "max by (endpoint) (orderly_webhook_lag_seconds)"},
                "s",
            ),
            Panel(
                "Attempts by outcome",
                {
                    "{{outcome}}": "sum by (outcome)"
                    " (rate(orderly_webhook_attempt_duration_seconds_count[5m]))"
                },
                "reqps",
            ),
            Panel(
                "Oldest event that a relay has not published",
                {"{{relay}}": "max by (relay) (orderly_relay_lag_seconds)"},
                "s",
            ),
        ],
        "Processes": [
            Panel(
                "Processor time",
                {"{{job}} {{instance}}": 'rate(process_cpu_seconds_total{job=~"orderly-.+"}[5m])'},
                "percentunit",
            ),
            Panel(
                "Memory",
                {"{{job}} {{instance}}": 'process_resident_memory_bytes{job=~"orderly-.+"}'},
                "bytes",
            ),
            Panel(
                "Processes by version",
                {
                    "{{process}} {{version}} {{build_id}}": "count by (process, version, build_id)"
                    " (orderly_build_info)"
                },
            ),
        ],
    },
)

ON_CALL = Dashboard(
    "orderly-on-call",
    "Orderly: on call",
    "Whether it works, and if not, what is wrong. Each alert links to what to do.",
    {
        "Does it work?": [
            Panel(
                "Commands",
                {"": 'max(orderly_ready{what="commands"})'},
                is_number=True,
                red_below=1,
            ),
            Panel("Reads", {"": 'max(orderly_ready{what="reads"})'}, is_number=True, red_below=1),
            Panel(
                "Alerts",
                {"": 'count(ALERTS{alertname=~"Orderly.+", alertstate="firing"}) or vector(0)'},
                is_number=True,
                red_from=1,
            ),
            Panel("Workers", {"": "max(orderly_workers)"}, is_number=True, red_below=1),
            Panel("Deliverers", {"": "max(orderly_deliverers)"}, is_number=True),
        ],
        "What is wrong?": [
            Panel(
                "Dependencies: 1 is ok",
                {"{{dependency}}": "max by (dependency) (orderly_dependency_ok)"},
            ),
            Panel("Processes: 1 answers", {"{{job}} {{instance}}": 'up{job=~"orderly-.+"}'}),
            Panel(
                "Share of requests that get a 503",
                {
                    "503": f'(sum(rate({_REQUESTS}_count{{status="503"}}[2m])) or vector(0))'
                    f" / sum(rate({_REQUESTS}_count[2m]))"
                },
                "percentunit",
            ),
        ],
        "Orders in trouble": [
            Panel(
                "Orders",
                {
                    "cannot publish": "max(orderly_unpublished_orders)",
                    "fail": "max(orderly_failing_orders)",
                    "orphaned": "max(orderly_orphaned_orders)",
                },
            ),
            Panel(
                "Orders that wait for a service",
                {"{{service}} {{reason}}": "max by (service, reason) (orderly_waiting_orders)"},
            ),
            Panel(
                "Orders that a projection cannot project",
                {"{{projection}}": "max by (projection) (orderly_projection_parked_orders)"},
            ),
        ],
        "What is late?": [
            Panel(
                "Read models",
                {"{{projection}}": "max by (projection) (orderly_projection_lag_seconds)"},
                "s",
            ),
            Panel(
                "Oldest writing transaction",
                {"": "max(orderly_watermark_age_seconds)"},
                "s",
            ),
            Panel(
                "Search for orphaned orders",
                {"": "max(orderly_orphan_check_age_seconds)"},
                "s",
            ),
            Panel(
                "Webhook endpoints",
                {"{{endpoint}}": "max by (endpoint) (orderly_webhook_lag_seconds)"},
                "s",
            ),
            Panel(
                "Wait of a workflow task for a worker, 95 %",
                {
                    "95 %": _percentile(
                        0.95, "temporal_workflow_task_schedule_to_start_latency_seconds"
                    )
                },
                "s",
            ),
        ],
    },
    since="now-1h",
)

DASHBOARDS = (BUSINESS, SERVICE, ON_CALL)
