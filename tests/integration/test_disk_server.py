"""A server of several workers with the disk backend keeps what servers on a SQLite database of their own promise."""

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from harness.oauth import OAuthClient
from harness.server import Server
from harness.waiting import HANGS_AFTER
from integration.conftest import StartServer

AT_ONCE = 8
ROUNDS = 5


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(EXA_MCP_STORAGE_BACKEND="disk", WEB_CONCURRENCY="3", HOLDFAST_TOKEN_CACHE="0")


def connections(server: Server, stack: ExitStack) -> list[httpx.Client]:
    """As many as requests at once, so that every worker has some."""
    return [stack.enter_context(httpx.Client(base_url=server.url, timeout=HANGS_AFTER)) for _ in range(AT_ONCE)]


def test_one_code_is_redeemed_once_however_many_ask_at_once(server: Server) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as threads:
        first, *_ = everyone = connections(server, stack)
        for _ in range(ROUNDS):
            client = OAuthClient(first)
            client.register()
            code = client.code()
            rivals = [OAuthClient(http, client.client_id, client.verifier) for http in everyone]
            answers = [answer.json() for answer in threads.map(OAuthClient.redeem, rivals, [code] * AT_ONCE)]
            assert sorted(answer.get("error", "") for answer in answers) == ["", *["invalid_grant"] * (AT_ONCE - 1)]


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_the_tokens_of_a_pair_end_together(server: Server, kind: str) -> None:
    with ExitStack() as stack:
        first, *_ = everyone = connections(server, stack)
        client = OAuthClient(first).sign_in()
        assert client.revoke(client.tokens[kind]).status_code == 200
        for http in everyone:
            other = OAuthClient(http, client.client_id, tokens=client.tokens)
            assert other.call().status_code == 401
            assert other.refresh().json()["error"] == "invalid_grant"


def test_a_database_that_is_damaged_while_it_is_used_makes_no_errors(server: Server, tmp_path: Path) -> None:
    database = tmp_path / "data" / "oauth-proxy" / "disk" / "cache.db"
    with ExitStack() as stack:
        first, *_ = everyone = connections(server, stack)
        client = OAuthClient(first).sign_in()
        for _ in range(ROUNDS):
            OAuthClient(first).sign_in()
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()
        with database.open("r+b") as file:
            file.write(os.urandom(database.stat().st_size))
        statuses = []
        for http in everyone:
            other = OAuthClient(http, client.client_id, tokens=dict(client.tokens))
            statuses += [other.call().status_code, other.refresh().status_code, http.get("/readyz").status_code]
        assert max(statuses) < 500, statuses
        newcomer = OAuthClient(first).sign_in()
        for http in everyone:
            assert OAuthClient(http, tokens=newcomer.tokens).call().status_code == 200
    assert "set the damaged database aside" in server.output()
    server.restart()
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        assert OAuthClient(http, tokens=newcomer.tokens).call().status_code == 200
