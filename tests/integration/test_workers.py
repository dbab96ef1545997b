"""How a worker spends little on a call; see docs/performance.md."""

from pathlib import Path
from typing import Any

import httpx

from integration.conftest import StartServer

PAYLOAD = """
import asyncio
import gc

from fastmcp import FastMCP

mcp = FastMCP("Worker")


@mcp.tool
async def worker() -> dict[str, int]:
    gc.collect()
    serving = [task for task in asyncio.all_tasks() if "run_stateless_server" in task.get_name()]
    return {"tasks": len(serving), "frozen": gc.get_freeze_count(), "searched": len(gc.get_objects())}
"""
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "worker", "arguments": {}}}
WITHOUT_LOGIN = {"FASTMCP_SERVER_AUTH": "none", "HOLDFAST_ALLOW_ANONYMOUS": "true"}


def test_it_answers_in_one_task_and_searches_little_for_garbage(start_server: StartServer, tmp_path: Path) -> None:
    (payload := tmp_path / "payload.py").write_text(PAYLOAD)
    settings = {"HOLDFAST_SERVER": str(payload), "HOLDFAST_REPLICAS": "true", "FASTMCP_JSON_RESPONSE": "true"}
    server = start_server(**settings, **WITHOUT_LOGIN)
    answer = httpx.post(f"{server.url}/mcp", json=CALL, headers={"Accept": "application/json"}, timeout=30)
    worker: dict[str, Any] = answer.raise_for_status().json()["result"]["structuredContent"]
    assert worker["tasks"] == 0
    assert worker["frozen"] > 50_000
    assert worker["searched"] < worker["frozen"] / 2
