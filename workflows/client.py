"""The connection to Temporal, made alike in every process from Temporal's own environment."""

from __future__ import annotations

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.service import RetryConfig

# By default the client retries for some fourteen seconds before it reports that the server is busy
# or unavailable. A caller of the API needs to know sooner, and can then decide to wait.
_SOON = RetryConfig(
    initial_interval_millis=50, max_interval_millis=200, max_elapsed_time_millis=800
)


async def connect(*, lazy: bool = False) -> Client:
    """A client of the server that TEMPORAL_ADDRESS and its like name; localhost:7233 without them.

    A lazy one connects with its first call, so that a process can start while Temporal is unavailable;
    else raises ConnectionError if it cannot be reached now.
    """
    config = ClientConfig.load_client_connect_config()
    config.setdefault("target_host", "localhost:7233")
    try:
        return await Client.connect(
            **config,
            data_converter=pydantic_data_converter,
            lazy=lazy,
            retry_config=_SOON if lazy else None,
        )
    except RuntimeError as error:
        address = config["target_host"]
        raise ConnectionError(f"Temporal cannot be reached at {address}.") from error
