"""A collector of telemetry, which keeps the spans and metrics that it receives."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Seen:
    """A span, and the process that it comes from."""

    service: str
    span: Span


class Collector(ThreadingHTTPServer):
    """Takes spans and metrics by OTLP over HTTP, and over gRPC."""

    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.seen: list[Seen] = []
        self.metrics: dict[str, dict[str, Metric]] = {}
        """The newest of each service, by name."""
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        add_TraceServiceServicer_to_server(_Traces(self), self._grpc)  # type: ignore[no-untyped-call]
        add_MetricsServiceServicer_to_server(_Metrics(self), self._grpc)  # type: ignore[no-untyped-call]
        self._grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def grpc_url(self) -> str:
        return f"http://127.0.0.1:{self._grpc_port}"

    def server_close(self) -> None:
        self._grpc.stop(None)
        super().server_close()

    def keep_spans(self, request: trace_pb2.ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            name = _service(resource.resource)
            for scope in resource.scope_spans:
                self.seen += [Seen(name, span) for span in scope.spans]

    def keep_metrics(self, request: metrics_pb2.ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            found = (metric for scope in resource.scope_metrics for metric in scope.metrics)
            self.metrics[_service(resource.resource)] = {metric.name: metric for metric in found}


@contextmanager
def run_collector() -> Iterator[Collector]:
    """Runs one inside the `with`."""
    with Collector() as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server
        finally:
            server.shutdown()
            serving.join()


class _Traces(TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._collector.keep_spans(request)
        return trace_pb2.ExportTraceServiceResponse()


class _Metrics(MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._collector.keep_metrics(request)
        return metrics_pb2.ExportMetricsServiceResponse()


class _Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        if self.path.endswith("/v1/metrics"):
            request = metrics_pb2.ExportMetricsServiceRequest.FromString(body)
            self.server.keep_metrics(request)
        else:
            self.server.keep_spans(trace_pb2.ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _service(resource: Resource) -> str:
    return {a.key: a.value.string_value for a in resource.attributes}["service.name"]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)
