"""How workers share what there is to do, and how each spends little on a call; see docs/performance.md."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.server import Server
from harness.waiting import HANGS_AFTER

PAYLOAD = """
import asyncio
import gc
import os
import sys

from fastmcp import FastMCP

mcp = FastMCP("Worker")


@mcp.tool
async def worker() -> dict[str, int]:
    gc.collect()
    serving = [task for task in asyncio.all_tasks() if "run_stateless_server" in task.get_name()]
    return {
        "process": os.getpid(),
        "tasks": len(serving),
        "frozen": gc.get_freeze_count(),
        "searched": len(gc.get_objects()),
        "traced": sum(name.startswith("opentelemetry.sdk") for name in sys.modules),
    }
"""
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "worker", "arguments": {}}}
WITHOUT_LOGIN = {"FASTMCP_SERVER_AUTH": "none", "HOLDFAST_ALLOW_ANONYMOUS": "true"}
LISTEN = "0A"
"""The state in /proc/net/tcp (proc_net(5))."""


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two workers."""
    directory = tmp_path_factory.mktemp("workers")
    (payload := directory / "payload.py").write_text(PAYLOAD)
    settings = {"HOLDFAST_SERVER": str(payload), "WEB_CONCURRENCY": "2", "FASTMCP_JSON_RESPONSE": "true"}
    server = Server(directory / "data", directory / "log", **settings, **WITHOUT_LOGIN)
    yield server.start()
    server.stop()


def answer_of(http: httpx.Client) -> dict[str, Any]:
    answer = http.post("/mcp", json=CALL, headers={"Accept": "application/json"})
    worker: dict[str, Any] = answer.raise_for_status().json()["result"]["structuredContent"]
    return worker


def test_it_answers_in_one_task_and_searches_little_for_garbage(workers: Server) -> None:
    with httpx.Client(base_url=workers.url, timeout=HANGS_AFTER) as http:
        worker = answer_of(http)
    assert worker["tasks"] == 0
    assert worker["frozen"] > 50_000
    assert worker["searched"] < worker["frozen"] / 2


def test_it_loads_nothing_for_traces_that_nobody_wants(workers: Server) -> None:
    with httpx.Client(base_url=workers.url, timeout=HANGS_AFTER) as http:
        assert answer_of(http)["traced"] == 0


def test_each_has_a_socket_of_its_own_so_that_the_kernel_spreads_connections(workers: Server) -> None:
    """Of one socket the worker that wakes first takes all that come, for as long as clients keep them."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [line for line in lines if line[3] == LISTEN and int(line[1].rpartition(":")[2], 16) == workers.port]
    assert len(listening) == 2
