"""Servers that keep their store in an engine, from the outside."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from engines.conftest import StartServer
from harness.engines import ENGINES, EngineProcess
from harness.engines.process import KEYS
from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.selection import in_every_run
from harness.server import Server
from harness.waiting import HANGS_AFTER, eventually
from mcp_holdfast.storage.atomic import LEASES
from mcp_holdfast.storage.backends import open_engine
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION

Connect = Callable[..., httpx.Client]

PAGE = Path(__file__).parents[2] / "docs/engines.md"

OF_EACH_KIND = ("redis", "postgresql")
"""An engine that forgets what expires by itself, and one that does not."""

SHORTEST_SECRET = 8
ACCOUNT = "ada-king-countess-of-lovelace"
JSON_WEB_TOKEN = rb"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\."


def run(server: Server, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command beside a server, with the same settings."""
    return subprocess.run(
        [Path(sys.executable).with_name("holdfast"), *arguments],
        env={"PATH": "/usr/bin:/bin", **server.environment, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as connections:
        yield lambda server, **options: connections.enter_context(
            httpx.Client(base_url=server.url, timeout=HANGS_AFTER, **options)
        )


def signed_in(http: httpx.Client) -> OAuthClient:
    client = OAuthClient(http)
    client.register().raise_for_status()
    client.redeem(client.code()).raise_for_status()
    return client


def test_another_server_goes_on_where_one_was_killed(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    client = signed_in(connect(server))
    server.kill()
    client.http = connect(start_server(HOLDFAST_BASE_URL=server.url))
    assert [client.call().status_code, client.refresh().status_code, client.call().status_code] == [200, 200, 200]


class Overheard:
    """Every value that a client, its person and a server told each other."""

    def __init__(self) -> None:
        self.values: set[str] = set()
        self.hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._request], "response": [self._response]}

    def _request(self, request: httpx.Request) -> None:
        self._form(str(request.url.query, "ascii"))
        if request.headers.get("content-type") == "application/x-www-form-urlencoded":
            self._form(request.read().decode())
        if "authorization" in request.headers:
            self.values.add(request.headers["authorization"].rpartition(" ")[2])

    def _response(self, response: httpx.Response) -> None:
        response.read()
        self._form(str(httpx.URL(response.headers.get("location", "/")).query, "ascii"))
        if "json" in response.headers.get("content-type", ""):
            self._json(response.json())

    def _form(self, encoded: str) -> None:
        self.values |= set(httpx.QueryParams(encoded).values())

    def _json(self, value: object) -> None:
        if isinstance(value, dict):
            for name, member in value.items():
                # What every server says of itself, and what the client chose for all to see.
                if name in {"access_token", "refresh_token", "id_token", "client_id", "client_secret", "sub", "email"}:
                    self._json(member)
        elif isinstance(value, str):
            self.values.add(value)


@pytest.mark.parametrize("engine", in_every_run(OF_EACH_KIND, ENGINES), indirect=True)
def test_no_secret_is_in_the_engine(
    start_server: StartServer, engine: EngineProcess, provider: IdentityProvider, connect: Connect
) -> None:
    server = start_server()
    server.kill()
    server.environment |= proxy_environment(provider, server.url)
    server.start()
    overheard = Overheard()
    client = OAuthClient(connect(server, event_hooks=overheard.hooks))
    person = ProxyPerson(ACCOUNT, quick=True)
    person.http.event_hooks = overheard.hooks
    client.person = person
    client.register().raise_for_status()
    client.redeem(client.code()).raise_for_status()
    assert [client.call().status_code, client.refresh().status_code] == [200, 200]
    known = provider.issued() | overheard.values | set(KEYS.values()) | {ACCOUNT}
    secrets = {value for value in known if len(value) >= SHORTEST_SECRET and not value.startswith("http")}
    assert {client.client_id, client.verifier, client.tokens["access_token"], client.tokens["refresh_token"]} < secrets
    for held in (engine.dump(), engine.files()):
        assert b"sealed" in held
        assert [secret for secret in secrets if secret.encode() in held] == []
        assert re.findall(JSON_WEB_TOKEN, held) == []


@pytest.mark.parametrize("engine", in_every_run(("redis",), ENGINES), indirect=True)
def test_a_server_with_another_key_could_not_start(start_server: StartServer, engine: EngineProcess) -> None:
    server = start_server()
    checked = run(server, "check")
    assert checked.returncode == 0
    assert re.search(rf"^storage  {engine.backend} in \w+://", checked.stdout, re.MULTILINE)
    checked = run(server, "check", HOLDFAST_STORAGE_KEY="of-somebody-else-and-32-characters")
    assert checked.returncode == 78
    assert "HOLDFAST_STORAGE_KEY: the store was sealed with another key" in checked.stderr


@pytest.mark.parametrize("engine", in_every_run(("postgresql",), ENGINES), indirect=True)
def test_a_server_whose_engine_does_not_answer_says_so_and_ends(engine: EngineProcess, tmp_path: Path) -> None:
    server = Server(tmp_path / "home", tmp_path / "log", **engine.settings())
    engine.kill()
    try:
        server.launch()
        assert server.wait_for_exit() == 78
    finally:
        engine.start()
    assert "HOLDFAST_STORAGE_URL: cannot use" in server.output()
    assert "@" not in server.output()
    assert not (tmp_path / "home/oauth-proxy").exists()


@pytest.mark.parametrize("engine", in_every_run(OF_EACH_KIND, ENGINES), indirect=True)
def test_a_server_waits_for_its_engine_if_it_is_told_to(engine: EngineProcess, tmp_path: Path) -> None:
    server = Server(tmp_path / "home", tmp_path / "log", **engine.settings(), HOLDFAST_STORAGE_WAIT="5m")
    engine.kill()
    try:
        server.launch()
        eventually(server.output, lambda log: "waiting for the store" in log)
    finally:
        engine.start()
    try:
        server.wait_until_ready()
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["redis", "postgresql"])
def test_a_wrong_password_is_not_waited_for(
    name: str, running_engines: Callable[[str], EngineProcess], tmp_path: Path
) -> None:
    settings = running_engines(name).settings()
    settings["HOLDFAST_STORAGE_URL"] = settings["HOLDFAST_STORAGE_URL"].replace("p%40ss", "another")
    server = Server(tmp_path / "home", tmp_path / "log", **settings, HOLDFAST_STORAGE_WAIT="5m")
    server.launch()
    assert server.wait_for_exit() == 78
    assert "HOLDFAST_STORAGE_URL: cannot use" in server.output()
    assert "not let in" in server.output()
    assert "another" not in server.output()


@pytest.mark.parametrize("engine", in_every_run(("redis",), ENGINES), indirect=True)
def test_a_store_moves_from_a_volume_into_the_engine(
    start_server: StartServer, engine: EngineProcess, tmp_path: Path, connect: Connect
) -> None:
    before = Server(tmp_path / "volume", tmp_path / "before", **KEYS).start()
    client = signed_in(connect(before))
    copy = run(before, "backup", str(tmp_path / "copy"))
    assert copy.returncode == 0, copy.stderr
    before.kill()
    settings = {**engine.settings(), "EXA_MCP_STORAGE_BACKEND": engine.backend}
    restored = run(before, "restore", str(tmp_path / "copy"), **settings)
    assert restored.returncode == 0, restored.stderr
    again = run(before, "restore", str(tmp_path / "copy"), **settings)
    assert again.returncode == 78
    assert "nothing is overwritten" in again.stderr
    client.http = connect(start_server(HOLDFAST_BASE_URL=before.url))
    assert [client.call().status_code, client.refresh().status_code] == [200, 200]


@pytest.mark.parametrize("engine", in_every_run(("postgresql",), ENGINES), indirect=True)
def test_a_store_is_copied_while_its_server_goes_on(
    start_server: StartServer, engine: EngineProcess, tmp_path: Path, connect: Connect
) -> None:
    before = Server(tmp_path / "volume", tmp_path / "before", **KEYS).start()
    client, gone = signed_in(connect(before)), signed_in(connect(before))
    settings = {**engine.settings(), "EXA_MCP_STORAGE_BACKEND": engine.backend}
    copy = ("import", "--from", f"filetree://{tmp_path}/volume")
    tried = run(before, *copy, "--dry-run", **settings)
    assert (tried.returncode, "nothing was stored" in tried.stdout) == (0, True), tried.stderr
    copied = run(before, *copy, **settings)
    assert copied.returncode == 0, copied.stderr
    assert client.refresh().status_code == 200
    assert gone.revoke(gone.tokens["refresh_token"]).status_code == 200
    before.kill()
    again = json.loads(run(before, *copy, "--json", **settings).stdout)
    assert 0 < again["copied"] < again["examined"]
    assert again["deleted"] > 0
    client.http = gone.http = connect(start_server(HOLDFAST_BASE_URL=before.url))
    assert [client.call().status_code, client.refresh().status_code] == [200, 200]
    assert gone.call().status_code == 401
    back = run(before, *copy, **settings)
    assert back.returncode == 78
    assert "would be overwritten" in back.stderr


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_the_page_moves_a_store_whose_keys_holdfast_made(
    start_server: StartServer, engine: EngineProcess, tmp_path: Path, connect: Connect
) -> None:
    volume = tmp_path / "volume"
    before = Server(volume, tmp_path / "before").start()
    client = signed_in(connect(before))
    before.kill()
    (tmp_path / "url").write_text(f"{engine.url}\n")
    (command,) = re.findall(r"^docker run (?:.*\\\n)*.*", PAGE.read_text(), flags=re.MULTILINE)
    words = shlex.split(command.replace("/data", str(volume)).replace("/run/secrets/storage_url", f"{tmp_path}/url"))
    settings = dict(word.split("=", 1) for option, word in pairwise(words) if option == "--env")
    moved = subprocess.run(
        [Path(sys.executable).with_name("holdfast"), *words[words.index("import") :]],
        env={"PATH": "/usr/bin:/bin", **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert moved.returncode == 0, moved.stderr
    keys = {
        f"HOLDFAST_{key.upper()}_KEY": (volume / f"keys/{key}.key").read_text().strip()
        for key in ("storage", "signing")
    }
    client.http = connect(start_server(HOLDFAST_BASE_URL=before.url, **keys))
    assert [client.call().status_code, client.refresh().status_code] == [200, 200]


@pytest.mark.parametrize("engine", ["redis"], indirect=True)
def test_a_copy_that_was_cut_off_is_not_served(engine: EngineProcess, tmp_path: Path) -> None:
    before = Server(tmp_path / "volume", tmp_path / "before", **KEYS).start()
    before.kill()
    settings = {**engine.settings(), "EXA_MCP_STORAGE_BACKEND": engine.backend}
    copy = ("import", "--from", f"filetree://{tmp_path}/volume")
    assert run(before, *copy, **settings).returncode == 0
    asyncio.run(engine_holds(engine, "filling", LEASES))
    second = run(before, *copy, **settings)
    assert second.returncode == 78
    assert "is being filled by somebody else" in second.stderr
    asyncio.run(engine_holds(engine, "filling", LEASES, for_seconds=0.001))
    asyncio.run(engine_holds(engine, "filling"))
    server = Server(tmp_path / "home", tmp_path / "log", **engine.settings())
    server.launch()
    assert server.wait_for_exit() == 78
    assert "is being filled, or that was cut off" in server.output()
    assert run(before, *copy, **settings).returncode == 0
    server.start()
    server.stop()


async def engine_holds(
    engine: EngineProcess, key: str, collection: str = HOLDFAST_COLLECTION, *, for_seconds: float | None = None
) -> None:
    store = open_engine(engine.url)
    await store.put(key, {}, collection=collection, ttl=for_seconds)
    await store.close()


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (("--from", "nowhere"), "--from"),
        (("--from", "filetree:///does-not-exist"), "--from"),
        (("--from", "redis://localhost/0", "--to", "redis://localhost/0"), "--to"),
        (("--from", "redis://localhost/zero"), "HOLDFAST_STORAGE_URL"),
    ],
)
def test_a_copy_from_or_to_nowhere_is_refused(tmp_path: Path, arguments: tuple[str, ...], variable: str) -> None:
    refused = run(Server(tmp_path / "home", tmp_path / "log", **KEYS), "import", *arguments)
    assert refused.returncode == 78
    assert f"  - {variable}: " in refused.stderr
    assert not (tmp_path / "home/oauth-proxy").exists()


@pytest.mark.parametrize("arguments", [(), ("source", "--from", "filetree:///x"), ("--to", "x", "--key-file", "y")])
def test_it_must_be_clear_what_is_to_be_imported(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(Server(tmp_path / "home", tmp_path / "log", **KEYS), "import", *arguments).returncode == 2


@pytest.mark.parametrize("engine", ["redis"], indirect=True)
def test_commands_work_beside_a_server(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    assert run(server, "sessions", "--json").stdout.strip() == "[]"
    client = signed_in(connect(server))
    (session,) = json.loads(run(server, "sessions", "--json").stdout)
    assert session["client_id"] == client.client_id
    next_key = {
        "HOLDFAST_STORAGE_KEY": "the-next-key-with-at-least-32-characters",
        "HOLDFAST_STORAGE_KEY_PREVIOUS": KEYS["HOLDFAST_STORAGE_KEY"],
    }
    server.kill()
    server.environment |= next_key
    server.start()
    rotated = run(server, "rotate")
    assert rotated.returncode == 0, rotated.stderr
    assert client.refresh().status_code == 200
    server.kill()
    del server.environment["HOLDFAST_STORAGE_KEY_PREVIOUS"]
    server.start()
    assert [client.call().status_code, client.refresh().status_code] == [200, 200]


def test_commands_find_no_store_where_no_server_began_one(engine: EngineProcess, tmp_path: Path) -> None:
    server = Server(tmp_path / "home", tmp_path / "log", **engine.settings())
    found = run(server, "sessions")
    assert found.returncode == 78
    assert "HOLDFAST_STORAGE_URL: there is no" in found.stderr


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_the_doctor_tells_how_fast_the_engine_answers(engine: EngineProcess, tmp_path: Path) -> None:
    server = Server(tmp_path / "home", tmp_path / "log", **engine.settings())
    examined = run(server, "doctor")
    assert (examined.returncode, examined.stderr) == (0, "")
    assert re.search(
        r"^good +engine +\S.*, which has no store yet: the first start makes it", examined.stdout, re.MULTILINE
    )
    server.start()
    try:
        examined = run(server, "doctor")
    finally:
        server.stop()
    assert (examined.returncode, examined.stderr) == (0, "")
    assert re.search(
        r"^\w+ +engine speed +put [\d.]+ ms, get [\d.]+ ms, delete [\d.]+ ms", examined.stdout, re.MULTILINE
    )
    engine.kill()
    try:
        examined = run(server, "doctor")
    finally:
        engine.start()
    assert examined.returncode == 78
    assert re.search(r"^problem +HOLDFAST_STORAGE_URL +cannot use ", examined.stdout, re.MULTILINE)
