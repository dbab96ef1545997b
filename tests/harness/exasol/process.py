"""The stand-in as a process, and what it tells of those who used it."""

import json
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.certificates import certify
from harness.identity_provider import IdentityProvider
from harness.server import ServerProcess

DATABASE_USER = "MCP"
"""The user with a password, who may impersonate the others: ADA and GRACE, by the subjects `ada` and `grace`."""

TESTS = Path(__file__).parents[2]


class ExasolDatabase(ServerProcess):
    """stand_in.py tells what it does as Exasol does. Takes the tokens of `provider` and no others.

    All that it holds is in its memory: after a restart it holds again what it did at first.
    """

    password = "p@ss,word:100% 'real'"

    def __init__(self, directory: Path, provider: IdentityProvider) -> None:
        super().__init__(directory / "database.log", {"PYTHONPATH": str(TESTS)})
        self.dsn = f"{self.host}:{self.port}"
        self.authority = directory / "authority.pem"
        self._events = directory / "events.jsonl"
        self._events.touch()
        certificate, key = certify(self.host, directory / "certificate", self.authority)
        self.environment |= {
            "CERTIFICATE": str(certificate),
            "KEY": str(key),
            "PASSWORD": self.password,
            "ISSUER": provider.issuer,
            "JWKS_URI": provider.jwks_uri,
            "EVENTS": str(self._events),
        }

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "harness.exasol.stand_in"]

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    @contextmanager
    def changed(self, **environment: str) -> Iterator[None]:
        """Restart it with other settings, and with its own again afterwards."""
        own = dict(self.environment)
        self.environment |= environment
        self.restart()
        try:
            yield
        finally:
            self.environment = own
            self.restart()

    def logins(self) -> list[dict[str, Any]]:
        """The command (login or loginToken), the user or None, the token, and whether answers are compressed."""
        return list(self._told("login"))

    def users_of(self, text: str) -> set[str]:
        """As whom every statement ran, or failed, that contains this text."""
        return {event["user"] for event in self._told("statement") if text in event["sql"]}

    def fetches(self) -> int:
        """How many pieces of result sets it was asked for."""
        return len(list(self._told("fetch")))

    def _told(self, name: str) -> Iterator[dict[str, Any]]:
        for line in self._events.read_text().splitlines():
            event = json.loads(line)
            if event.pop("event") == name:
                yield event
