"""Who leaves a server with a login of its own: vault-mcp, the memory service, otterwiki."""

import json
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from harness.oauth import REDIRECT_URI, OAuthClient
from harness.selection import in_every_run
from harness.server import Server
from harness.waiting import HANGS_AFTER
from importers.conftest import RunHoldfast, StartHoldfast
from importers.old_servers import MemoryService
from importers.state_files import SignedIn, otterwiki_database, vault_mcp_state

Write = Callable[[Path, list[SignedIn]], Path]
SOURCES = {"vault-mcp": (vault_mcp_state, "OAUTH_STATE_PATH"), "otterwiki": (otterwiki_database, "MCP_OAUTH_DB")}


def signed_in(name: str, **properties: object) -> SignedIn:
    return SignedIn(name, secrets.token_hex(32), secrets.token_hex(32), **properties)  # type: ignore[arg-type]


def client_of(server: Server, one: SignedIn) -> OAuthClient:
    http = httpx.Client(base_url=server.url, timeout=HANGS_AFTER, limits=httpx.Limits(max_keepalive_connections=0))
    return OAuthClient(
        http, one.client_id, tokens={"access_token": one.access_token, "refresh_token": one.refresh_token}
    )


@pytest.mark.parametrize("source", SOURCES)
def test_a_session_lives_on_when_holdfast_is_first_started_with_the_old_settings(
    source: str, start_holdfast: StartHoldfast, tmp_path: Path
) -> None:
    write, variable = SOURCES[source]
    one = signed_in("one")
    state = write(tmp_path / "state", [one])
    before = state.read_bytes()
    server = start_holdfast(tmp_path / "data", **{variable: str(state)})
    assert "imported another server's state" in server.output()
    client = client_of(server, one)
    assert client.call().is_success, "the old access token is good until it expires"
    assert client.refresh().is_success
    assert client.tokens["refresh_token"] != one.refresh_token
    assert client.call_tool("whoami").is_success
    assert client.refresh().is_success
    assert state.read_bytes() == before
    server.restart()
    assert client.call().is_success
    assert one.access_token not in server.output()


@pytest.mark.parametrize("source", in_every_run(("vault-mcp",), SOURCES))
def test_a_registration_needs_no_second_one_to_sign_in_again(
    source: str, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    write, _ = SOURCES[source]
    one = signed_in("one", expired=True)
    server = start_holdfast(tmp_path / "data")
    assert run_holdfast(server, "import", write(tmp_path / "state", [one])).returncode == 0
    client = client_of(server, one)
    assert client.call().status_code == 401
    assert client.redeem(client.code()).is_success
    assert client.call().is_success


@pytest.mark.parametrize("source", in_every_run(("otterwiki",), SOURCES))
def test_an_imported_refresh_token_is_used_once_and_its_reuse_ends_the_session(
    source: str, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    write, _ = SOURCES[source]
    one, other = signed_in("one"), signed_in("other")
    server = start_holdfast(tmp_path / "data", HOLDFAST_REFRESH_GRACE="0", HOLDFAST_TOKEN_CACHE="0")
    assert run_holdfast(server, "import", write(tmp_path / "state", [one, other])).returncode == 0
    client, stranger = client_of(server, one), client_of(server, other)
    assert not stranger.refresh(one.refresh_token).is_success, "it belongs to another client"
    assert client.refresh().is_success
    assert not client_of(server, one).refresh().is_success
    assert client.call().status_code == 401, "its reuse means that it was stolen"
    assert stranger.call().is_success


@pytest.mark.parametrize("source", in_every_run(("vault-mcp",), SOURCES))
def test_an_imported_session_is_listed_and_can_be_ended(
    source: str, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    write, _ = SOURCES[source]
    one = signed_in("one")
    state = write(tmp_path / "state", [one])
    server = start_holdfast(tmp_path / "data", HOLDFAST_TOKEN_CACHE="0")
    run_holdfast(server, "import", state)
    client = client_of(server, one)
    assert client.call().is_success
    listed = json.loads(run_holdfast(server, "sessions", "--json").stdout)
    assert {session["client_id"] for session in listed} == {"one"}
    assert client.revoke(one.access_token).is_success
    assert client.call().status_code == 401
    run_holdfast(server, "revoke", "--all", "--yes")
    again = json.loads(run_holdfast(server, "import", state, "--json").stdout)
    assert set(again["carried_over"].values()) == {0}
    assert not client.refresh().is_success
    assert client.call().status_code == 401


@pytest.mark.parametrize("source", in_every_run(("otterwiki",), SOURCES))
def test_a_client_with_a_secret_still_needs_it(
    source: str, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    write, _ = SOURCES[source]
    one = signed_in("one", client_secret="a-client-s-secret")
    server = start_holdfast(tmp_path / "data")
    run_holdfast(server, "import", write(tmp_path / "state", [one]))
    client = client_of(server, one)
    assert client.refresh().status_code == 401
    assert client.refresh(client_secret="another").status_code == 401
    assert client.refresh(client_secret="a-client-s-secret").is_success


@pytest.fixture(scope="module")
def memory_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryService]:
    directory = tmp_path_factory.mktemp("memory-service")
    service = MemoryService(directory / "oauth.db", directory / "log").start()
    yield service
    service.stop()


def sign_in_at(service: MemoryService, scope: str, **metadata: str) -> OAuthClient:
    with httpx.Client(base_url=service.url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http)
        client.register(**metadata).raise_for_status()
        query = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": REDIRECT_URI,
            "code_challenge": client.challenge,
            "code_challenge_method": "S256",
            "scope": scope,
        }
        approved = http.post("/authorize", params=query, data={"api_key": service.api_key})
        found = re.search(r"[?&]code=([\w-]+)", approved.text)
        assert found is not None, approved.text
        client.redeem(found[1]).raise_for_status()
    return client


def test_a_session_of_the_memory_service_lives_on(
    memory_service: MemoryService, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    client = sign_in_at(memory_service, "read write offline_access")
    reader = sign_in_at(memory_service, "read")
    database = Path(memory_service.environment["MCP_OAUTH_SQLITE_PATH"])
    server = start_holdfast(tmp_path / "data", MCP_OAUTH_SQLITE_PATH=str(database))
    assert "imported another server's state" in server.output()
    client.http = reader.http = httpx.Client(
        base_url=server.url, timeout=HANGS_AFTER, limits=httpx.Limits(max_keepalive_connections=0)
    )
    assert client.call().is_success
    assert client.refresh().is_success
    assert client.call().is_success
    assert reader.call().status_code == 401, "what was limited to reading must not be good for everything"
    told = run_holdfast(server, "import", database)
    assert "was limited to reading" in told.stdout


def test_a_client_of_the_memory_service_whose_secret_is_only_a_hash_is_left_and_told(
    memory_service: MemoryService, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    with httpx.Client(base_url=memory_service.url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http)
        client.register(token_endpoint_auth_method="client_secret_post").raise_for_status()
    server = start_holdfast(tmp_path / "data")
    told = run_holdfast(server, "import", memory_service.environment["MCP_OAUTH_SQLITE_PATH"])
    assert "only the hash of its secret is known" in told.stdout
    assert client.client_id not in run_holdfast(server, "clients", "--json").stdout


def test_a_refresh_token_that_the_memory_service_revoked_is_left(
    memory_service: MemoryService, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    client = sign_in_at(memory_service, "read write offline_access")
    database = Path(memory_service.environment["MCP_OAUTH_SQLITE_PATH"])
    with closing(sqlite3.connect(database)) as connection:
        token = client.tokens["refresh_token"]
        connection.execute("UPDATE oauth_refresh_tokens SET revoked = 1 WHERE token = ?", (token,))
        connection.commit()
    server = start_holdfast(tmp_path / "data")
    told = run_holdfast(server, "import", database)
    assert "revoked" in told.stdout
    client.http = httpx.Client(
        base_url=server.url, timeout=HANGS_AFTER, limits=httpx.Limits(max_keepalive_connections=0)
    )
    assert not client.refresh().is_success
