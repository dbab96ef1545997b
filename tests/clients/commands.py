"""The clients that are used by commands, each of which is a process of its own."""

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

from clients.client import NPM_PACKAGES, PROGRAMS, Client
from clients.person import Person
from harness.waiting import eventually


class CommandLineClient(Client):
    """What it remembers is in its home only."""

    def stop(self) -> None:
        """There is nothing to end."""

    def run(self, command: str) -> "RunningCommand":
        """Run a command to its end, as somebody who is signed in."""
        with RunningCommand(self, shlex.split(self.at_this_server(command))) as running:
            eventually(lambda: running.has_ended() or self.person.is_asked(), bool)
            assert not self.person.is_asked(), f"{command} asks to sign in again:\n{running.printed()}"
            running.check()
        return running

    def run_and_sign_in(self, command: str) -> None:
        """Run a command that takes the person to sign in."""
        with RunningCommand(self, shlex.split(self.at_this_server(command))) as running:
            self._sign_in_and_end(running)

    def run_and_sign_in_at_a_terminal(self, command: str, confirmation: str = "", ends_with: int = 0) -> None:
        """Run a command that wants a terminal, and say yes to the question that ends with `confirmation`."""
        with RunningCommand(self, ["script", "--quiet", "--return", "--command", command, "/dev/null"]) as running:
            if confirmation:
                eventually(lambda: running.has_ended() or confirmation in running.printed(), bool)
                running.type("y\n")
            self._sign_in_and_end(running, ends_with)

    def _sign_in_and_end(self, running: "RunningCommand", ends_with: int = 0) -> None:
        eventually(lambda: running.has_ended() or self.person.is_asked(), bool)
        assert self.person.is_asked(), f"{self.name} does not open the browser:\n{running.printed()}"
        self.person.sign_in()
        eventually(running.has_ended, bool)
        running.check(ends_with)


class RunningCommand:
    """A process in the home of a client, which lasts no longer than the context."""

    def __init__(self, client: Client, command: list[str]) -> None:
        self._command = command
        self._output = client.home / "output"
        self._errors = client.home / "errors"
        with self._output.open("w") as output, self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=client.home,
                env=client.environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if not self.has_ended():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def check(self, ends_with: int = 0) -> None:
        """Whether it ended with this exit status."""
        assert self._process.returncode == ends_with, f"{self._command} failed:\n{self.printed()}"

    def type(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def json(self) -> Any:
        """What it printed to standard output."""
        return json.loads(self._output.read_text())

    def printed(self) -> str:
        """All that it printed."""
        return self._output.read_text() + self._errors.read_text()


class Inspector(CommandLineClient):
    """The command line of the MCP Inspector."""

    name = "MCP Inspector"
    package = "@modelcontextprotocol/inspector"
    documented = (
        "npx @modelcontextprotocol/inspector --cli http://localhost:8000/mcp --method tools/call --tool-name whoami",
    )

    def __init__(self, url: str, home: Path, person: Person) -> None:
        super().__init__(url, home, person)
        # There is no key ring here, and nobody at a terminal.
        self.environment |= {"MCP_INSPECTOR_SECRET_STORE": "file", "MCP_AUTO_OPEN_ENABLED": "true"}

    def sign_in(self) -> None:
        self.run_and_sign_in(self.documented[0])

    def use(self) -> None:
        assert self.run(self.documented[0]).json()["structuredContent"]["subject"] == "owner"


class Mcporter(CommandLineClient):
    """mcporter, which calls tools from a shell."""

    name = "mcporter"
    package = "mcporter"
    documented = ("npx mcporter call http://localhost:8000/mcp.whoami --allow-http",)

    def sign_in(self) -> None:
        self.run_and_sign_in(self.documented[0])

    def use(self) -> None:
        assert self.run(self.documented[0]).json()["subject"] == "owner"


class ClaudeCode(CommandLineClient):
    """Claude Code, which calls a tool only when its model wants that."""

    name = "Claude Code"
    package = "@anthropic-ai/claude-code"
    documented = (
        "claude mcp add --transport http holdfast http://localhost:8000/mcp",
        "claude mcp login holdfast",
        "claude mcp list",
        "claude mcp logout holdfast",
    )
    replays_its_registration = True

    def __init__(self, url: str, home: Path, person: Person) -> None:
        super().__init__(url, home, person)
        self.environment["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"
        # npm runs no installation scripts here, and that of this package puts the program where it belongs.
        (program,) = (NPM_PACKAGES / "@anthropic-ai").glob("claude-code-*/claude")
        (home / "bin").mkdir()
        (home / "bin/claude").symlink_to(program)
        self.environment["PATH"] = f"{home}/bin{os.pathsep}{self.environment['PATH']}"
        self.run(self.documented[0])

    def sign_in(self) -> None:
        self.run_and_sign_in_at_a_terminal(self.documented[1])

    def use(self) -> None:
        assert self.is_connected()

    def is_connected(self) -> bool:
        return "✔ Connected" in self.run(self.documented[2]).printed()

    def forget(self) -> None:
        assert not self.is_connected()
        self.run(self.documented[3])


class Codex(CommandLineClient):
    """Codex CLI. Its editor extensions call tools without a model, through `codex app-server`."""

    name = "Codex CLI"
    package = "@openai/codex"
    documented = (
        "codex mcp add holdfast --url http://localhost:8000/mcp",
        "codex mcp login holdfast",
    )

    def sign_in(self) -> None:
        added = (self.home / ".codex/config.toml").exists()
        self.run_and_sign_in(self.documented[1 if added else 0])

    def use(self) -> None:
        called = self.run(f"python {PROGRAMS / 'codex_app_server.py'} holdfast whoami")
        assert called.json()["subject"] == "owner"


class GeminiCLI(CommandLineClient):
    """Gemini CLI, which calls a tool only when its model wants that."""

    name = "Gemini CLI"
    package = "@google/gemini-cli"
    documented = (
        "gemini mcp add --scope user --transport http holdfast http://localhost:8000/mcp",
        "gemini --prompt '/mcp auth holdfast'",
        "gemini mcp list",
    )

    def __init__(self, url: str, home: Path, person: Person) -> None:
        super().__init__(url, home, person)
        # It signs in at no server before it knows how to reach a model, which is not asked for anything.
        self.environment |= {"GEMINI_API_KEY": "none", "GEMINI_CLI_TRUST_WORKSPACE": "true"}
        self.run(self.documented[0])

    def sign_in(self) -> None:
        assert not self.is_connected()
        # After the sign-in it wants to go on in a window, which a prompt from the command line has not: status 42.
        self.run_and_sign_in_at_a_terminal(self.documented[1], confirmation="[Y/n]: ", ends_with=42)

    def use(self) -> None:
        assert self.is_connected()

    def is_connected(self) -> bool:
        return "✓ holdfast" in self.run(self.documented[2]).printed()
