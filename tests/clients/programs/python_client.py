"""The official Python SDK's client. Reads a tool's name a line and prints what the tool answered, as JSON, a line.

usage: python_client.py URL; keeps its registration and tokens in ~/oauth.json
"""

import asyncio
import json
import os
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from urllib.parse import parse_qs

import httpx
from mcp import ClientSession, McpError
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken


class StoredLogin(TokenStorage):
    """What the SDK asks an application to keep."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}

    async def get_tokens(self) -> OAuthToken | None:
        kept = self._kept.get("tokens")
        return OAuthToken.model_validate_json(kept) if kept else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._keep("tokens", tokens.model_dump_json())

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        kept = self._kept.get("client")
        return OAuthClientInformationFull.model_validate_json(kept) if kept else None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._keep("client", client_info.model_dump_json())

    def _keep(self, name: str, value: str) -> None:
        self._kept[name] = value
        self._path.write_text(json.dumps(self._kept))


class Callback:
    """Where the browser brings the authorization code."""

    async def listen(self) -> "Callback":
        self._answers: asyncio.Queue[dict[str, list[str]]] = asyncio.Queue()
        self._server = await asyncio.start_server(self._answer, "localhost", 0)
        self.url = f"http://localhost:{self._server.sockets[0].getsockname()[1]}/callback"
        return self

    async def code_and_state(self) -> tuple[str, str | None]:
        parameters = await self._answers.get()
        return parameters["code"][0], parameters["state"][0]

    async def _answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        request_line = (await reader.readline()).decode()
        parameters = parse_qs(request_line.partition("?")[2].partition(" ")[0])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        if "code" in parameters:
            self._answers.put_nowait(parameters)


async def open_browser(url: str) -> None:
    subprocess.Popen([os.environ["BROWSER"], url])  # noqa: ASYNC220


async def next_tool() -> str:
    line: str = await asyncio.to_thread(sys.stdin.readline)
    return line.strip()


async def main(url: str) -> None:
    callback = await Callback().listen()
    registration = OAuthClientMetadata.model_validate({"client_name": "Python SDK", "redirect_uris": [callback.url]})
    stored = StoredLogin(Path.home() / "oauth.json")
    login = OAuthClientProvider(url, registration, stored, open_browser, callback.code_and_state)
    tool = await next_tool()
    async with httpx.AsyncClient(auth=login, timeout=300) as http:
        while tool:
            async with (
                streamable_http_client(url, http_client=http) as (read, write, _),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
                try:
                    while tool:
                        print(json.dumps((await session.call_tool(tool)).structuredContent), flush=True)
                        tool = await next_tool()
                except McpError as error:
                    # A restarted server does not know the MCP session any more; clients then open a new one.
                    if "Session terminated" not in str(error):
                        raise


asyncio.run(main(sys.argv[1]))
