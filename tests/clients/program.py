"""An MCP client as a process of its own, so that a restart of it is a real one."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from clients.person import Person
from harness.waiting import eventually

ANSWERS_WITHIN = 90.0


class ClientProgram:
    """Takes a tool's name a line and prints the answer a line. What it remembers is in `home`."""

    def __init__(self, command: list[str], home: Path, person: Person) -> None:
        self._command = command
        self._person = person
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(home), **person.environment}
        self._answers = home / "answers"
        self._log = home / "log"
        self._process: subprocess.Popen[str] | None = None
        self._asked = 0

    def start(self) -> None:
        self._asked = 0
        with self._answers.open("w") as answers, self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.PIPE, stdout=answers, stderr=log, text=True
            )

    def stop(self) -> None:
        """End it as a user closes a program, or by force where that does not help."""
        if self._process is not None:
            try:
                self._process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    def sign_in(self, tool: str) -> dict[str, Any]:
        """Call a tool, which takes the person to sign in."""
        self._ask(tool)
        eventually(self._opened_the_browser, bool, within=ANSWERS_WITHIN)
        self._person.sign_in()
        return self._answer()

    def call(self, tool: str) -> dict[str, Any]:
        """Call a tool. The person has signed in before and is not asked again."""
        self._ask(tool)
        eventually(lambda: self._has_answered() or self._opened_the_browser(), bool, within=ANSWERS_WITHIN)
        assert not self._person.is_asked(), f"the client asks to sign in again:\n{self._log.read_text()}"
        return self._answer()

    def _ask(self, tool: str) -> None:
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(f"{tool}\n")
        process.stdin.flush()
        self._asked += 1

    def _answer(self) -> dict[str, Any]:
        eventually(self._has_answered, bool, within=ANSWERS_WITHIN)
        answer: dict[str, Any] = json.loads(self._lines()[self._asked - 1])
        return answer

    def _has_answered(self) -> bool:
        self._running()
        return len(self._lines()) >= self._asked

    def _opened_the_browser(self) -> bool:
        self._running()
        return self._person.is_asked()

    def _lines(self) -> list[str]:
        return [line for line in self._answers.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the client was not started")
        if self._process.poll() is not None:
            raise RuntimeError(f"the client ended with {self._process.returncode}:\n{self._log.read_text()}")
        return self._process
