"""More than can be served is sent away unharmed, and an engine that is away is told at once."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from api.places import FEW, START, Pace
from eventlog.postgres import connect_pool
from readside import order_view
from settings import Settings
from stack.claim import LOOPBACK, free_ports
from tests.conftest import TEMPORAL, Running, run_api, run_projector, run_worker
from tests.test_api import BASKET, problem
from workflows.client import connect
from workflows.order import CUSTOMER, STATUS
