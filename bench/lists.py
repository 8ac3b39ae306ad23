"""How long pages of orders take at 10,000 and at 1,000,000 orders, for each filter and sort."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from statistics import median
from time import perf_counter
from typing import Any

import asyncpg
from rich.console import Console

from bench import machine, ours
from bench.report import Json, columns, counted, percentiles_ms, place
from bench.servers import postgres
from eventlog.postgres import connect

