"""The alerts as a PrometheusRule, the form in which the Prometheus Operator reads them."""

from __future__ import annotations

from textwrap import indent

HEAD = """\
# Generated from deploy/prometheus/orderly.rules.yml by `make monitoring`: change it there.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: orderly
  labels:
    app.kubernetes.io/name: orderly
    app.kubernetes.io/component: monitoring
spec:
"""


def prometheus_rule(rules: str) -> str:
    """The manifest with all groups of a file of rules; both are YAML."""
    return HEAD + indent(rules[rules.index("groups:") :], "  ")
