"""The connection to Temporal, configured by Temporal's own environment variables."""

from __future__ import annotations

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.service import RetryConfig

# By default the client retries for some fourteen seconds before it reports that the server is busy
# or unavailable. A request has to know sooner.
_SHORT_RETRY = RetryConfig(
    initial_interval_millis=50, max_interval_millis=200, max_elapsed_time_millis=800
)


async def connect(*, lazy: bool = False) -> Client:
    """A client of the server that TEMPORAL_ADDRESS etc. name, or else of localhost:7233.

    With `lazy` it connects with its first call, so that a process can start while Temporal is
    unavailable; otherwise it raises ConnectionError if Temporal cannot be reached now.
    """
    config = ClientConfig.load_client_connect_config()
    config.setdefault("target_host", "localhost:7233")
    try:
        return await Client.connect(
            **config,
            data_converter=pydantic_data_converter,
            lazy=lazy,
            retry_config=_SHORT_RETRY if lazy else None,
        )
    except RuntimeError as error:
        address = config["target_host"]
        raise ConnectionError(f"Temporal cannot be reached at {address}.") from error
