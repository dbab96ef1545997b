"""Calls a tool through Codex without its model, as the Codex extensions of editors can. Prints its answer, as JSON.

usage: codex_app_server.py SERVER TOOL
"""

import json
import subprocess
import sys
from typing import Any

# No model is asked for anything, and none shall be looked for.
COMMAND = ["codex", "app-server"]
NO_MODEL = ["model_provider=none", 'model_providers.none={name="none", base_url="http://127.0.0.1:9"}']


class AppServer:
    """`codex app-server`, which speaks JSON-RPC, a message a line."""

    def __init__(self) -> None:
        options = [word for value in NO_MODEL for word in ("--config", value)]
        self._process = subprocess.Popen([*COMMAND, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._requests = 0

    def request(self, method: str, **parameters: Any) -> Any:
        self._requests += 1
        self._send({"id": self._requests, "method": method, "params": parameters})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if message.get("id") == self._requests and "method" not in message:
                if "error" in message:
                    raise SystemExit(f"{method}: {message['error']['message']}")
                return message["result"]
        raise SystemExit(f"{method}: the app server ended")

    def notify(self, method: str) -> None:
        self._send({"method": method})

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(message)}\n")
        self._process.stdin.flush()


def main(server: str, tool: str) -> None:
    codex = AppServer()
    codex.request("initialize", clientInfo={"name": "holdfast", "version": "1"})
    codex.notify("initialized")
    thread = codex.request("thread/start", ephemeral=True)["thread"]["id"]
    result = codex.request("mcpServer/tool/call", threadId=thread, server=server, tool=tool, arguments={})
    print(json.dumps(result["structuredContent"]))
    codex.stop()


main(*sys.argv[1:])
