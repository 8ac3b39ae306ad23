"""The connection to Temporal, configured by Temporal's own environment variables."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, KeepAliveConfig
from temporalio.envconfig import ClientConfig
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
)
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from background import within
from workflows import worker_heartbeats
from workflows.data_converter import DATA_CONVERTER

# By default the client retries for some fourteen seconds before it reports that the server is busy
# or unavailable. A request has to know sooner; and a command whose order continues as new, which
# the server calls busy, would wait a second for the first retry. The gateway retries.
_NO_RETRY = RetryConfig(max_retries=1)
# A connection whose other side vanished is given up after fifteen seconds instead of forty-five. A
# server does not accept pings more often than every ten.
_KEEP_ALIVE = KeepAliveConfig(interval_millis=11_000, timeout_millis=4_000)
HEALTH_SECONDS_MAX = 1.5
NO_WORKFLOW = "health-check"


class MissingSearchAttributes(Exception):
    """The namespace lacks search attributes, without which orders could not continue."""


class UnknownNamespace(Exception):
    """The server has no namespace of the name that is configured."""


async def check_namespace(client: Client) -> None:
    """Raises UnknownNamespace, and RPCError if the server fails to look for a workflow."""
    try:
        await client.get_workflow_handle(NO_WORKFLOW).describe()
    except RPCError as error:
        details = error.grpc_status.details
        if any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in details):
            raise UnknownNamespace(
                f"Temporal has no namespace {client.namespace}: set TEMPORAL_NAMESPACE."
            ) from error
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise


async def check_search_attributes(client: Client, needed: Iterable[str]) -> None:
    """Raises MissingSearchAttributes; passes where the server does not tell, as Temporal Cloud."""
    request = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        known = await client.operator_service.list_search_attributes(request)
    except RPCError:
        return
    missing = sorted(set(needed) - known.custom_attributes.keys())
    if missing:
        raise MissingSearchAttributes(
            f"The Temporal namespace {client.namespace} lacks the search attributes "
            f"{', '.join(missing)}: create them as the README says."
        )


def new_runtime(metrics: PrometheusConfig | None = None) -> Runtime:
    """A runtime for clients and workers, which logs as Python does."""
    forwarding = LogForwardingConfig(
        logging.getLogger("temporalio.core"),
        append_target_to_name=False,
        prepend_target_on_message=False,
    )
    logging_config = LoggingConfig(LoggingConfig.default.filter, forwarding)
    return Runtime(
        telemetry=TelemetryConfig(
            logging=logging_config, metrics=metrics, attach_service_name=False
        ),
        worker_heartbeat_interval=worker_heartbeats.INTERVAL,
    )


_runtime = cache(new_runtime)  # A runtime has threads of its own.


async def health_of(client: Client) -> str:
    """The state of Temporal: "ok", or what is wrong with it.

    Its health check is fine while its database cannot be written to, as on a full disk. Looking for
    a workflow, which does not exist, tells.
    """
    try:
        return await within(HEALTH_SECONDS_MAX, _look_at(client))
    except Exception as error:  # Any error is a reason.
        return f"unreachable: {str(error) or type(error).__name__}"


async def _look_at(client: Client) -> str:
    await check_namespace(client)
    return "ok" if await client.service_client.check_health() else "not serving"


async def connect(*, lazy: bool = False, runtime: Runtime | None = None) -> Client:
    """A client of the server that TEMPORAL_ADDRESS etc. name, or else of localhost:7233.

    With `lazy` it connects with its first call, so that a process can start while Temporal is
    unavailable; otherwise it raises ConnectionError if Temporal cannot be reached now. In any case
    it does so for a key that cannot be read.
    """
    config = ClientConfig.load_client_connect_config(override_env_vars=_variables())
    config.setdefault("target_host", "localhost:7233")
    try:
        return await Client.connect(
            **config,
            data_converter=DATA_CONVERTER,
            lazy=lazy,
            runtime=runtime or _runtime(),
            keep_alive_config=_KEEP_ALIVE,
            retry_config=_NO_RETRY if lazy else None,
        )
    except RuntimeError as error:
        address = config["target_host"]
        raise ConnectionError(f"Temporal cannot be reached at {address}.") from error


def _variables() -> dict[str, str]:
    """The SDK's variables, with the key in the file of TEMPORAL_API_KEY_FILE, which it ignores."""
    variables = dict(os.environ)
    if not (path := variables.get("TEMPORAL_API_KEY_FILE")):
        return variables
    if variables.get("TEMPORAL_API_KEY"):
        raise ConnectionError("Set TEMPORAL_API_KEY or TEMPORAL_API_KEY_FILE, not both.")
    try:
        return variables | {"TEMPORAL_API_KEY": Path(path).read_text().strip()}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConnectionError(f"TEMPORAL_API_KEY_FILE: {path} cannot be read: {why}.") from None
