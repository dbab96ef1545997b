"""A server with one small tool: a payload for Holdfast, and as a program stock FastMCP.

As a program it reads PORT, the variables of its login as tests/harness/stock_server.py does (FASTMCP_SERVER_AUTH=none
for no login), STOCK_STORE=memory for a store other than FastMCP's own choice, and STOCK_LOOP="uvloop httptools" for
what does not come with FastMCP. SLOW_FILES is by how many seconds each file operation takes longer.
"""

import os
import sys
from pathlib import Path

from fastmcp import FastMCP

sys.path.insert(0, str(Path(__file__).parent))

import slow_files  # type: ignore[import-not-found]  # it is beside this file

if "SLOW_FILES" in os.environ:
    slow_files.slow_down(os.environ["FASTMCP_HOME"], float(os.environ["SLOW_FILES"]))

mcp: FastMCP = FastMCP("Calculator")


@mcp.tool
async def add(a: int, b: int) -> int:
    """Add two numbers. A coroutine: FastMCP runs functions in threads, which costs both alike."""
    return a + b


def run_stock() -> None:
    import uvicorn
    from key_value.aio.stores.memory import MemoryStore

    sys.path.insert(0, str(Path(__file__).parents[2] / "tests/harness"))
    import stock_server  # type: ignore[import-not-found]

    if os.environ["FASTMCP_SERVER_AUTH"] != "none":
        store = MemoryStore() if os.environ.get("STOCK_STORE") == "memory" else None
        mcp.auth = stock_server.login(client_storage=store)
    app = mcp.http_app(path="/mcp", stateless_http=True, json_response=True)
    # What comes with FastMCP, which needs uvicorn but not uvicorn[standard]; constraints.txt has more for Holdfast.
    loop, http = os.environ.get("STOCK_LOOP", "asyncio h11").split()
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ["PORT"]), log_level="warning", loop=loop, http=http)


if __name__ == "__main__":
    run_stock()
