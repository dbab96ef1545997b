"""The clients that stay connected: libraries, each in a program that reads tool names and prints what they answer."""

import json
import shlex
import subprocess
import sys
from abc import abstractmethod
from pathlib import Path
from typing import Any

from clients.client import PROGRAMS, Client
from clients.person import Person
from harness.waiting import eventually

ENDS_WITHIN = 5.0


class ConversingClient(Client):
    """Takes a tool's name a line and prints the answer a line."""

    def __init__(self, url: str, home: Path, person: Person) -> None:
        super().__init__(url, home, person)
        self._answers = home / "answers"
        self._log = home / "log"
        self._process: subprocess.Popen[str] | None = None
        self._asked = 0

    @abstractmethod
    def command(self) -> list[str]:
        """The program, which signs in at the first tool."""

    def sign_in(self) -> None:
        self._ask("whoami")
        eventually(self._opened_the_browser, bool)
        self.person.sign_in()
        assert self._answer()["subject"] == "owner"

    def use(self) -> None:
        self._ask("whoami")
        eventually(lambda: self._has_answered() or self._opened_the_browser(), bool)
        assert not self.person.is_asked(), f"the client asks to sign in again:\n{self._log.read_text()}"
        assert self._answer()["subject"] == "owner"

    def stop(self) -> None:
        """End it as a user closes a program, or by force where that does not help."""
        if self._process is not None:
            try:
                self._process.communicate(timeout=ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
            self._process = None

    def _ask(self, tool: str) -> None:
        if self._process is None:
            self._process = self._start()
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(f"{tool}\n")
        stdin.flush()
        self._asked += 1

    def _start(self) -> subprocess.Popen[str]:
        self._asked = 0
        with self._answers.open("w") as answers, self._log.open("a") as log:
            return subprocess.Popen(
                self.command(),
                cwd=self.home,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=answers,
                stderr=log,
                text=True,
            )

    def _answer(self) -> dict[str, Any]:
        eventually(self._has_answered, bool)
        answer: dict[str, Any] = json.loads(self._lines()[self._asked - 1])
        return answer

    def _has_answered(self) -> bool:
        self._check_that_it_runs()
        return len(self._lines()) >= self._asked

    def _opened_the_browser(self) -> bool:
        self._check_that_it_runs()
        return self.person.is_asked()

    def _lines(self) -> list[str]:
        return [line for line in self._answers.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def _check_that_it_runs(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the client ended:\n{self._log.read_text()}")


class FastMCPClient(ConversingClient):
    """FastMCP's Python client with its OAuth helper."""

    name = "FastMCP client"
    package = "fastmcp"

    def command(self) -> list[str]:
        return [sys.executable, str(PROGRAMS / "fastmcp_client.py"), self.url]


class PythonSDK(ConversingClient):
    """The client of the official Python SDK."""

    name = "Python SDK"
    package = "mcp"
    forgets_expiry = True
    replays_its_registration = True

    def command(self) -> list[str]:
        return [sys.executable, str(PROGRAMS / "python_client.py"), self.url]

    def forget(self) -> None:
        self.stop()
        (self.home / "oauth.json").unlink()


class TypeScriptSDK(ConversingClient):
    """The client of the official TypeScript SDK."""

    name = "TypeScript SDK"
    package = "@modelcontextprotocol/sdk"

    def command(self) -> list[str]:
        return ["node", str(PROGRAMS / "typescript_client.mjs"), self.url]


class McpRemote(ConversingClient):
    """mcp-remote, which brings remote servers to clients that speak over standard input and output only."""

    name = "mcp-remote"
    package = "mcp-remote"
    documented = ("npx mcp-remote http://localhost:8000/mcp --transport http-only --allow-http",)

    def command(self) -> list[str]:
        (proxy,) = self.documented
        return [sys.executable, str(PROGRAMS / "fastmcp_client.py"), *shlex.split(self.at_this_server(proxy))]
