"""The Exasol MCP server on FastMCP 4, which is experimental: what clients of FastMCP 4 can do with it and what not."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fastmcp4.conftest import MODERN, ServerOnFastMCP4, call
from harness.exasol import DATABASE_USER, ExasolDatabase
from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.waiting import HANGS_AFTER

pytestmark = pytest.mark.long

TOOL = "execute_exasol_write_query"
WRITES = {"enable_read_query": True, "enable_write_query": True}
STATEMENT = 'INSERT INTO "RETAIL"."NOTES" VALUES (\'{}\')'


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exasol")


@pytest.fixture(scope="module")
def database(directory: Path) -> Iterator[ExasolDatabase]:
    provider = IdentityProvider(directory / "identity-provider").start()
    database = ExasolDatabase(directory, provider).start()
    yield database
    database.stop()
    provider.stop()


@pytest.fixture(params=[False, True], ids=["asks", "does not ask"])
def server(
    request: pytest.FixtureRequest, directory: Path, database: ExasolDatabase
) -> Iterator[tuple[ServerOnFastMCP4, bool]]:
    """A server, and whether its tools write without asking."""
    settings = json.dumps({**WRITES, "disable_elicitation": request.param})
    server = ServerOnFastMCP4(
        directory / f"data-{request.param}",
        directory / f"{request.param}.log",
        HOLDFAST_SERVER="exasol",
        EXA_DSN=database.dsn,
        EXA_USER=DATABASE_USER,
        EXA_PASSWORD=database.password,
        EXA_SSL_TRUSTED_CA=str(database.authority),
        EXA_MCP_SETTINGS=settings,
    )
    yield server.start(), request.param
    server.stop()


def test_it_reads_and_writes_only_where_it_need_not_ask(
    server: tuple[ServerOnFastMCP4, bool], database: ExasolDatabase
) -> None:
    running, does_not_ask = server
    assert "experimental on FastMCP 4" in running.output()
    with httpx.Client(base_url=running.url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http).sign_in()
    read = call(running, client, "execute_exasol_query", query='SELECT "NAME" FROM "RETAIL"."CUSTOMERS"')
    assert (read["protocol"], read["error"], "Ada" in read["text"]) == (MODERN, False, True)
    statement = STATEMENT.format(f"written {does_not_ask}")
    written = call(running, client, TOOL, query=statement)
    assert written["error"] is not does_not_ask, written
    assert bool(database.users_of(statement)) is does_not_ask
    if not does_not_ask:
        assert "unavailable on 2026-07-28" in written["text"]
