"""A client of FastMCP 4: call a tool with an access token, and tell which protocol was spoken and what came of it.

usage: caller.py URL TOOL ARGUMENTS, with the access token in ACCESS_TOKEN and ARGUMENTS in JSON
"""

import asyncio
import json
import os
import sys
from typing import Any

from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StreamableHttpTransport


async def accept(_message: str, response_type: Any, *_: Any) -> Any:
    return ElicitResult(action="accept", content={"value": "Ann"})


async def main(url: str, tool: str, arguments: str) -> None:
    transport = StreamableHttpTransport(url, auth=os.environ["ACCESS_TOKEN"])
    async with Client(transport, elicitation_handler=accept) as client:
        result = await client.call_tool(tool, json.loads(arguments), raise_on_error=False)
        text = "".join(getattr(part, "text", "") for part in result.content)
        print(json.dumps({"protocol": str(client.session.protocol_version), "error": result.is_error, "text": text}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
