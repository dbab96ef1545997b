"""`holdfast clients, sessions, revoke, sweep` as processes of their own, on the volume of a server that runs."""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.environments import LINE, programs_of
from harness.oauth import OAuthClient
from harness.server import Server
from harness.waiting import HANGS_AFTER, eventually
from integration.conftest import StartServer
from mcp_holdfast.settings import EXIT_CONFIG

PROGRAM = str(programs_of(LINE) / "holdfast")

Result = subprocess.CompletedProcess[str]
SignIn = Callable[..., OAuthClient]


def holdfast(server: Server, *arguments: str, **environment: str) -> Result:
    environment = {"PATH": "/usr/bin:/bin", **server.environment, **environment}
    return subprocess.run(
        [PROGRAM, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def output(server: Server, *arguments: str) -> str:
    result = holdfast(server, *arguments)
    assert result.returncode == 0, result.stderr
    # Nothing but what it ended, for the audit log.
    assert [line for line in result.stderr.splitlines() if '"event": "session_ended"' not in line] == []
    return result.stdout


def listed(server: Server, *arguments: str) -> list[dict[str, Any]]:
    found = json.loads(output(server, *arguments, "--json"))
    assert isinstance(found, list)
    return found


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(HOLDFAST_TOKEN_CACHE="1")


@pytest.fixture
def sign_in() -> Iterator[SignIn]:
    """Register another client at a server, and have its owner approve it."""
    with ExitStack() as connections:

        def sign_in(server: Server, client_name: str = "") -> OAuthClient:
            client = OAuthClient(connections.enter_context(httpx.Client(base_url=server.url, timeout=HANGS_AFTER)))
            # Clients that ask for the same are given the same registration.
            client.register(client_name=client_name or secrets.token_hex(4)).raise_for_status()
            client.redeem(client.code()).raise_for_status()
            return client

        yield sign_in


def refused(client: OAuthClient) -> None:
    eventually(lambda: client.call().status_code, lambda status: status == 401, within=5)
    assert client.refresh().json()["error"] == "invalid_grant"


class TestSessions:
    def test_are_listed_with_who_and_until_when(self, server: Server, sign_in: SignIn) -> None:
        client = sign_in(server, client_name="My editor")
        client.refresh().raise_for_status()
        (session,) = listed(server, "sessions")
        assert session["client_id"] == client.client_id
        assert session["client_name"] == "My editor"
        assert session["redirect_host"] == "localhost:18999"
        assert session["user"]
        created, refreshed, expires = (
            datetime.fromisoformat(session[name]) for name in ("created_at", "refreshed_at", "expires_at")
        )
        assert created <= refreshed <= datetime.now(tz=UTC) < expires
        head, row = output(server, "sessions").splitlines()
        assert head.split()[:2] == ["session", "user"]
        assert row.startswith(session["session"][:12])
        assert row.endswith("My editor")
        assert f"{expires:%Y-%m-%d %H:%M}" in row

    def test_can_be_those_of_one_client_or_user(self, server: Server, sign_in: SignIn) -> None:
        one, _ = sign_in(server), sign_in(server)
        assert [found["client_id"] for found in listed(server, "sessions", "--client", one.client_id)] == [
            one.client_id
        ]
        user = listed(server, "sessions")[0]["user"]
        assert len(listed(server, "sessions", "--user", user)) == 2
        assert listed(server, "sessions", "--user", "nobody") == []

    def test_of_a_client_with_a_hostile_name_leave_the_terminal_alone(self, server: Server, sign_in: SignIn) -> None:
        sign_in(server, client_name="\x1b]0;pwned\x07\x1b[2J\r\nroot\x9b31m\u202egnp")
        for command in ("sessions", "clients"):
            table = output(server, command)
            for text in (table, output(server, command, "--json")):
                assert all(character.isprintable() for character in text.replace("\n", ""))
            assert r"\x1b]0;pwned\x07\x1b[2J\r\nroot\x9b31m\u202egnp" in table
            assert len(table.splitlines()) == 2


class TestClients:
    def test_are_listed_with_how_many_sessions_each_has(self, server: Server, sign_in: SignIn) -> None:
        client = sign_in(server, client_name="My editor")
        client.redeem(client.code()).raise_for_status()
        stranger = OAuthClient(client.http)
        stranger.register(client_name="Passing by").raise_for_status()
        found = {one["client_id"]: one for one in listed(server, "clients")}
        assert (found[client.client_id]["sessions"], found[client.client_id]["used"]) == (2, True)
        assert found[client.client_id]["redirect_hosts"] == ["localhost:18999"]
        assert (found[stranger.client_id]["sessions"], found[stranger.client_id]["used"]) == (0, False)
        rows = {row.split()[0]: row for row in output(server, "clients").splitlines()}
        assert "My editor" in rows[client.client_id]
        assert "never used" in rows[stranger.client_id]


class TestRevoke:
    @pytest.mark.parametrize("backend", ["filetree", "disk"])
    def test_of_a_session_is_heeded_by_the_running_server(
        self, start_server: StartServer, sign_in: SignIn, backend: str
    ) -> None:
        server = start_server(EXA_MCP_STORAGE_BACKEND=backend, HOLDFAST_TOKEN_CACHE="1")
        mine, theirs = sign_in(server), sign_in(server)
        assert [client.call().status_code for client in (mine, theirs)] == [200, 200]
        (session,) = listed(server, "sessions", "--client", mine.client_id)
        said = output(server, "revoke", session["session"][:8])
        assert session["session"][:12] in said
        assert "revoked 1; running servers refuse their tokens within 1 s" in said
        refused(mine)
        assert theirs.call().status_code == 200
        assert [found["client_id"] for found in listed(server, "sessions")] == [theirs.client_id]

    def test_of_a_client_ends_its_sessions_only(self, server: Server, sign_in: SignIn) -> None:
        mine, theirs = sign_in(server), sign_in(server)
        revoked = json.loads(output(server, "revoke", "--client", mine.client_id, "--json"))
        assert [session["client_id"] for session in revoked["revoked"]] == [mine.client_id]
        assert revoked["refused_within_seconds"] == 1
        refused(mine)
        assert theirs.call().status_code == 200
        mine.redeem(mine.code()).raise_for_status()

    def test_of_a_user_and_of_all(self, server: Server, sign_in: SignIn) -> None:
        client = sign_in(server)
        assert "revoked 1;" in output(server, "revoke", "--user", listed(server, "sessions")[0]["user"])
        refused(client)
        client, other = sign_in(server), sign_in(server)
        without_yes = holdfast(server, "revoke", "--all")
        assert without_yes.returncode == 2
        assert "add --yes" in without_yes.stderr
        assert client.call().status_code == 200
        assert "revoked 2;" in output(server, "revoke", "--all", "--yes")
        refused(client)
        refused(other)

    def test_of_nothing_has_status_1(self, server: Server) -> None:
        for choice in (["0123456789ab"], ["--all", "--yes"]):
            result = holdfast(server, "revoke", *choice)
            assert result.returncode == 1
            assert result.stderr == "There is no such session\n"

    def test_says_how_to_name_what_is_meant(self, server: Server) -> None:
        for arguments in ([], ["0123"], ["0123456789ab", "--all", "--yes"], ["--client", "x", "--user", "y"]):
            assert holdfast(server, "revoke", *arguments).returncode == 2, arguments


class TestSweep:
    def test_tells_what_was_removed_now_and_so_far(self, start_server: StartServer, sign_in: SignIn) -> None:
        server = start_server(HOLDFAST_SWEEP_INTERVAL="0")
        client = sign_in(server)
        store = Path(server.environment["FASTMCP_HOME"]) / "oauth-proxy"
        for number in range(3):
            temporary = store / "holdfast_sessions" / f".put-{number}.tmp"
            temporary.touch()
            os.utime(temporary, (time.time() - 86400,) * 2)
        expire_some_records(store / "holdfast_leases")
        swept = json.loads(output(server, "sweep", "--json"))
        assert swept["removed"]["temporary"] == 3
        assert swept["examined"] > 5
        assert client.call().status_code == 200
        (store / ".put-x.tmp").touch()
        os.utime(store / ".put-x.tmp", (0, 0))
        said = output(server, "sweep")
        assert [line.split()[:2] for line in said.splitlines() if "temporary" in line] == [["1", "4"]]

    def test_is_possible_with_a_database_too(self, start_server: StartServer) -> None:
        server = start_server(EXA_MCP_STORAGE_BACKEND="disk")
        assert "expired records" in output(server, "sweep")


def expire_some_records(collection: Path) -> None:
    for file in collection.glob("*.json"):
        stored = json.loads(file.read_text())
        file.write_text(json.dumps({**stored, "expires_at": (datetime.now(tz=UTC) - timedelta(days=1)).isoformat()}))


class TestWithoutAStoreThatItCanRead:
    def stopped(self, start_server: StartServer, **environment: str) -> Server:
        server = start_server(**environment)
        server.kill()
        return server

    def assert_refused(self, server: Server, *words: str, **environment: str) -> None:
        result = holdfast(server, "sessions", **environment)
        assert result.returncode == EXIT_CONFIG
        assert all(word in result.stderr for word in words), result.stderr
        assert "Traceback" not in result.stderr

    def test_memory_is_said_to_be_out_of_reach(self, start_server: StartServer) -> None:
        server = self.stopped(start_server)
        self.assert_refused(server, "inside the server's own process", EXA_MCP_STORAGE_BACKEND="memory")

    def test_an_empty_volume_stays_empty(self, start_server: StartServer, tmp_path: Path) -> None:
        server = self.stopped(start_server)
        self.assert_refused(server, "FASTMCP_HOME: there is no filetree store", FASTMCP_HOME=str(tmp_path / "new"))
        assert not (tmp_path / "new").exists()

    def test_a_store_of_the_other_backend_is_no_store(self, start_server: StartServer) -> None:
        server = self.stopped(start_server)
        self.assert_refused(server, "there is no disk store", EXA_MCP_STORAGE_BACKEND="disk")

    def test_a_lost_key_is_not_replaced(self, start_server: StartServer, tmp_path: Path) -> None:
        server = self.stopped(start_server)
        key = Path(server.environment["FASTMCP_HOME"]) / "keys" / "storage.key"
        key.unlink()
        self.assert_refused(server, "HOLDFAST_STORAGE_KEY: is not set, and", "is missing")
        assert not key.exists()

    def test_another_key_is_refused_and_the_right_one_may_be_in_a_file(
        self, start_server: StartServer, tmp_path: Path
    ) -> None:
        server = self.stopped(start_server)
        self.assert_refused(server, "was sealed with another key", HOLDFAST_STORAGE_KEY="k" * 40)
        key = Path(server.environment["FASTMCP_HOME"]) / "keys" / "storage.key"
        key.rename(tmp_path / "key")
        assert holdfast(server, "sessions", HOLDFAST_STORAGE_KEY_FILE=str(tmp_path / "key")).returncode == 0

    def test_wrong_settings_are_named(self, start_server: StartServer) -> None:
        self.assert_refused(self.stopped(start_server), "HOLDFAST_LEASE: ", HOLDFAST_LEASE="soon")

    def test_root_leaves_nothing_in_the_store_of_another_user(self, start_server: StartServer) -> None:
        server = self.stopped(start_server)
        home = Path(server.environment["FASTMCP_HOME"])
        for path in [home, *home.rglob("*")]:
            os.chown(path, 10001, 10001)
        before = sorted(home.rglob("*"))
        self.assert_refused(server, "belongs to user 10001", "--user 10001")
        assert sorted(home.rglob("*")) == before

    def test_the_store_can_be_looked_at_while_the_server_is_stopped(
        self, start_server: StartServer, sign_in: SignIn
    ) -> None:
        server = start_server()
        client = sign_in(server)
        server.kill()
        assert [session["client_id"] for session in listed(server, "sessions")] == [client.client_id]
        assert "revoked 1;" in output(server, "revoke", "--all", "--yes")
        server.start()
        refused(client)


def test_a_rotation_without_a_previous_key_is_refused(server: Server) -> None:
    result = holdfast(server, "rotate")
    assert (result.returncode, result.stdout) == (2, "")
    assert "HOLDFAST_STORAGE_KEY_PREVIOUS is not set, so there is nothing to rotate" in result.stderr
