"""JSON schemas of the kinds of resources that are not Kubernetes' own, as they are documented.

Temporal's Worker Controller (temporal.io/v1alpha1, from its version 1.7) and the Prometheus
Operator (monitoring.coreos.com/v1); only the fields that a deployment of orderly may need. What
they contain of Kubernetes' own, such as pods, `contained` hands out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema

Json = dict[str, Any]

TEXT = {"type": "string", "minLength": 1}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
DURATION = {"type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", "minLength": 2}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
ANY = {"type": "object"}


def _object(required: str = "", /, **properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(items: Json, **more: Any) -> Json:
    return {"type": "array", "items": items, "minItems": 1, **more}


_KEY = _object("name key", name=NAME, key=TEXT, optional={"type": "boolean"})
_STEP = _object(
    "rampPercentage pauseDuration",
    rampPercentage={"type": "integer", "minimum": 1, "maximum": 99},
    pauseDuration=DURATION,
)
_GATE = _object(
    "workflowType",
    workflowType=TEXT,
    input=ANY,
    inputFrom=_object(configMapKeyRef=_KEY, secretKeyRef=_KEY) | {"maxProperties": 1},
) | {"not": {"required": ["input", "inputFrom"]}}
_ROLLOUT = _object(
    "strategy",
    strategy={"enum": ["Manual", "AllAtOnce", "Progressive"]},
    steps=_list(_STEP, maxItems=20),
    gate=_GATE,
) | {
    "if": {"properties": {"strategy": {"const": "Progressive"}}},
    "then": {"required": ["steps"]},
}
_WORKER_DEPLOYMENT = _object(
    "template rollout sunset workerOptions",
    replicas={"type": "integer", "minimum": 0},
    template=_object("metadata spec", metadata=ANY, spec=ANY),
    minReadySeconds={"type": "integer", "minimum": 0},
    progressDeadlineSeconds={"type": "integer", "minimum": 1},
    rollout=_ROLLOUT,
    sunset=_object(scaledownDelay=DURATION, deleteDelay=DURATION),
    workerOptions=_object(
        "connectionRef temporalNamespace",
        connectionRef=_object("name", name=NAME),
        temporalNamespace=TEXT,
        unsafeCustomBuildID={
            "type": "string",
            "pattern": "^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$",
            "maxLength": 63,
        },
    ),
)
_CONNECTION = _object(
    "hostPort",
    hostPort={"type": "string", "pattern": "^[a-zA-Z0-9.-]+:[0-9]+$"},
    tls=_object(serverName=TEXT),
    mutualTLSSecretRef=_object("name", name=NAME),
    apiKeySecretRef=_KEY,
) | {"not": {"required": ["mutualTLSSecretRef", "apiKeySecretRef"]}}
_WORKER_RESOURCE_TEMPLATE = _object(
    "workerDeploymentRef template",
    workerDeploymentRef=_object("name", name=NAME),
    template=_object("apiVersion kind spec", apiVersion=TEXT, kind=TEXT, metadata=ANY, spec=ANY),
)
_SELECTOR = _object(
    matchLabels=LABELS,
    matchExpressions=_list(_object("key operator", key=TEXT, operator=TEXT, values=_list(TEXT))),
)
_RELABELING = _object(
    "",
    action=TEXT,
    sourceLabels=_list(TEXT),
    targetLabel=TEXT,
    replacement=TEXT,
    regex=TEXT,
    separator=TEXT,
)
_ENDPOINT = _object(
    "port path",
    port=TEXT,
    path=TEXT,
    interval=DURATION,
    scrapeTimeout=DURATION,
    relabelings=_list(_RELABELING),
)
_RULE = _object(
    "alert expr labels annotations",
    alert=TEXT,
    expr=TEXT,
    labels=LABELS,
    annotations=LABELS,
    **{"for": DURATION},
)
SPECS = {
    ("temporal.io/v1alpha1", "WorkerDeployment"): _WORKER_DEPLOYMENT,
    ("temporal.io/v1alpha1", "Connection"): _CONNECTION,
    ("temporal.io/v1alpha1", "WorkerResourceTemplate"): _WORKER_RESOURCE_TEMPLATE,
    ("monitoring.coreos.com/v1", "PodMonitor"): _object(
        "selector podMetricsEndpoints", selector=_SELECTOR, podMetricsEndpoints=_list(_ENDPOINT)
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _object(
        "groups", groups=_list(_object("name rules", name=TEXT, rules=_list(_RULE)))
    ),
}


def is_custom(manifest: Json) -> bool:
    """Whether it is of a kind that is described here."""
    return (manifest["apiVersion"], manifest["kind"]) in SPECS


def validate_custom(manifest: Json) -> None:
    """Raises jsonschema.ValidationError."""
    metadata = _object("name", name=NAME, namespace=NAME, labels=LABELS, annotations=LABELS)
    spec = SPECS[manifest["apiVersion"], manifest["kind"]]
    schema = _object(
        "apiVersion kind metadata spec", apiVersion=TEXT, kind=TEXT, metadata=metadata, spec=spec
    )
    jsonschema.validate(manifest, schema)


def contained(manifest: Json) -> Iterator[Json]:
    """What a valid one contains of Kubernetes' own kinds, as the controller makes it."""
    spec = manifest["spec"]
    if manifest["kind"] == "WorkerDeployment":
        template = spec["template"]
        yield {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": manifest["metadata"]["name"]},
            "spec": {"selector": {"matchLabels": template["metadata"]["labels"]}}
            | {"template": template},
        }
    if manifest["kind"] == "WorkerResourceTemplate":
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "of-a-version"}
        yield spec["template"] | {
            "metadata": {"name": "of-a-version"},
            "spec": spec["template"]["spec"] | {"scaleTargetRef": target},
        }
