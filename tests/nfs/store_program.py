"""Does what a test asks with a store on a machine's mount. Arguments: the store's directory and the port to listen on.

A request and its answer are a line of JSON each: {"operation", "arguments"}, and {"result"} or {"error"}.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.keys import KeyRing

SECRET = "the same on every machine, at least 32 characters"


async def main(directory: Path, port: int) -> None:
    store = open_store("filetree", path=directory, keys=KeyRing((SECRET,), "test"))

    async def answer(request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"result": await getattr(store, request["operation"])(**request["arguments"])}
        except Exception as error:  # noqa: BLE001  # the test judges it
            return {"error": repr(error)}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.write(json.dumps(await answer(json.loads(line))).encode() + b"\n")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "0.0.0.0", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
