"""`holdfast backup` and `restore`, on the volume of a server that runs, and on an empty one elsewhere."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from harness.environments import LINE, programs_of
from harness.oauth import OAuthClient
from harness.server import Server
from harness.traffic import Traffic
from harness.waiting import HANGS_AFTER

PROGRAM = str(programs_of(LINE) / "holdfast")
KEYS = {"HOLDFAST_STORAGE_KEY": "a-storage-key-of-enough-characters-1", "HOLDFAST_SIGNING_KEY": "s" * 40}

Result = subprocess.CompletedProcess[str]
StartServer = Callable[..., Server]


def holdfast(
    server: Server, *arguments: str, stdin: str = "", stdout: Path | None = None, **environment: str
) -> Result:
    with ExitStack() as opened:
        return subprocess.run(
            [PROGRAM, *arguments],
            env={"PATH": "/usr/bin:/bin", **server.environment, **environment},
            input=stdin,
            stdout=opened.enter_context(stdout.open("w")) if stdout else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[StartServer]:
    """Make servers, each on a volume of its own, under one public URL."""
    servers: list[Server] = []

    def make(backend: str = "filetree", **environment: str) -> Server:
        number = len(servers)
        server = Server(tmp_path / f"data {number}", tmp_path / f"{number}.log", **{**KEYS, **environment})
        url = servers[0].url if servers else server.url
        server.environment |= {"EXA_MCP_STORAGE_BACKEND": backend, "HOLDFAST_BASE_URL": url}
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def clients() -> Iterator[Callable[[Server], OAuthClient]]:
    with ExitStack() as opened:
        yield lambda server: OAuthClient(opened.enter_context(httpx.Client(base_url=server.url, timeout=HANGS_AFTER)))


@pytest.fixture
def whole(make_server: StartServer, clients: Callable[[Server], OAuthClient], tmp_path: Path) -> Path:
    """A backup of a server with one sign-in."""
    server = make_server().start()
    clients(server).sign_in()
    file = tmp_path / "whole"
    assert holdfast(server, "backup", str(file)).returncode == 0
    return file


@pytest.mark.parametrize(("before", "after"), [("filetree", "disk"), ("disk", "filetree"), ("disk", "disk")])
def test_sessions_go_on_elsewhere_and_on_another_backend(
    make_server: StartServer, clients: Callable[[Server], OAuthClient], tmp_path: Path, before: str, after: str
) -> None:
    old = make_server(before).start()
    quiet, busy = clients(old).sign_in(), clients(old).sign_in()
    file = tmp_path / "backup"
    with Traffic([busy]).flowing() as traffic:
        made = holdfast(old, "backup", str(file))
    assert made.returncode == 0, made.stderr
    assert traffic.answers.keys() == {200}
    assert file.stat().st_mode & 0o777 == 0o600
    old.stop()
    new = make_server(after)
    restored = holdfast(new, "restore", str(file))
    assert restored.returncode == 0, restored.stderr
    new.start()
    moved = clients(new)
    moved.client_id, moved.tokens = quiet.client_id, quiet.tokens
    assert moved.call().status_code == 200
    assert moved.refresh().status_code == 200
    assert moved.call().status_code == 200


def test_a_backup_shows_nothing_of_what_is_in_it(
    make_server: StartServer, clients: Callable[[Server], OAuthClient]
) -> None:
    server = make_server().start()
    client = clients(server).sign_in()
    made = holdfast(server, "backup", "-")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout.splitlines()[0])["holdfast_backup"] == 1
    for secret in (client.client_id, *map(str, client.tokens.values()), *KEYS.values()):
        assert len(secret) < 8 or secret not in made.stdout
    through_a_pipe = holdfast(make_server(), "restore", "-", stdin=made.stdout)
    assert through_a_pipe.returncode == 0, through_a_pipe.stderr


def damaged(whole: str) -> Iterator[tuple[str, str, str]]:
    """How a backup may have been damaged, what it is then, and what is said."""
    lines = whole.splitlines(keepends=True)
    yield "empty", "", "not a backup"
    yield "no backup", "something else\n", "not a backup"
    yield "of the future", whole.replace('"holdfast_backup":1', '"holdfast_backup":2', 1), "not a backup"
    yield "without its end", "".join(lines[:-1]), "its end is missing"
    yield "cut in a line", whole[: len(whole) // 2], "is damaged"
    yield "without a record", "".join(lines[:3] + lines[4:]), "it should have"
    yield "with a line of another form", "".join([*lines[:2], '{"collection": 1}\n', *lines[3:]]), "line 3 is damaged"
    yield "with a line that is no JSON", "".join([*lines[:2], "\x00\n", *lines[3:]]), "line 3 is damaged"


def test_nothing_of_a_damaged_backup_is_restored(make_server: StartServer, whole: Path, tmp_path: Path) -> None:
    for name, content, said in damaged(whole.read_text()):
        file = tmp_path / name
        file.write_text(content)
        server = make_server()
        result = holdfast(server, "restore", str(file))
        assert (result.returncode, said in result.stderr) == (74, True), (name, result.stderr)
        assert not list(Path(server.environment["FASTMCP_HOME"]).rglob("*.json")), name


@pytest.mark.parametrize("backend", ["filetree", "disk"])
def test_a_backup_that_another_key_sealed_is_refused(make_server: StartServer, whole: Path, backend: str) -> None:
    server = make_server(backend)
    result = holdfast(server, "restore", str(whole), HOLDFAST_STORAGE_KEY="another-storage-key-of-enough-length")
    assert result.returncode == 78
    assert "HOLDFAST_STORAGE_KEY: the backup was sealed with another key" in result.stderr
    assert "begin with an empty store" not in result.stderr
    assert not list(Path(server.environment["FASTMCP_HOME"]).rglob("*.json"))
    assert holdfast(server, "restore", str(whole)).returncode == 0, "nothing of the first try is in the way"


def test_a_copy_with_another_key_says_that_it_is_not_the_sources(
    make_server: StartServer, whole: Path, tmp_path: Path
) -> None:
    source, key = tmp_path / "data 0", "another-storage-key-of-enough-length"
    copy = ("import", "--from", f"filetree://{source}", "--to", f"filetree://{tmp_path}/new")
    result = holdfast(make_server(), *copy, HOLDFAST_STORAGE_KEY=key)
    assert result.returncode == 78
    assert "HOLDFAST_STORAGE_KEY: the source (the store to copy) was sealed with another key" in result.stderr
    assert "empty" not in result.stderr
    assert not (tmp_path / "new/oauth-proxy").exists()


def test_a_backup_of_which_a_part_is_sealed_with_another_key_is_refused(
    make_server: StartServer, whole: Path, tmp_path: Path
) -> None:
    other = make_server(HOLDFAST_STORAGE_KEY="another-storage-key-of-enough-length").start()
    foreign = next(line for line in holdfast(other, "backup", "-").stdout.splitlines() if '"sealed"' in line)
    head, _, *rest = whole.read_text().splitlines()
    (tmp_path / "mixed").write_text("\n".join([head, foreign, *rest]))
    server = make_server()
    result = holdfast(server, "restore", str(tmp_path / "mixed"))
    assert (result.returncode, "sealed with another key" in result.stderr) == (78, True)
    assert not list(Path(server.environment["FASTMCP_HOME"]).rglob("*.json"))


def test_what_was_never_sealed_is_not_backed_up(
    make_server: StartServer, clients: Callable[[Server], OAuthClient]
) -> None:
    server = make_server().start()
    clients(server).sign_in()
    (record, *_) = (Path(server.environment["FASTMCP_HOME"]) / "oauth-proxy/holdfast_sessions").glob("*.json")
    planted = {**json.loads(record.read_text()), "value": {"sealed": "\ud800"}}
    record.with_name(f"{'0' * 64}.json").write_text(json.dumps(planted))
    made = holdfast(server, "backup", "-")
    assert made.returncode == 0, made.stderr
    assert "0" * 64 not in made.stdout


@pytest.mark.parametrize("variable", KEYS)
def test_without_its_keys_a_backup_is_not_restored(make_server: StartServer, whole: Path, variable: str) -> None:
    server = make_server()
    del server.environment[variable]
    result = holdfast(server, "restore", str(whole))
    assert result.returncode == 78
    assert f"{variable}: is not set" in result.stderr
    assert "a backup can be opened only with its keys" in result.stderr


def test_of_two_restores_at_once_one_is_done_as_a_whole(make_server: StartServer, whole: Path) -> None:
    server = make_server()
    with ThreadPoolExecutor(2) as both:
        results = list(both.map(lambda _: holdfast(server, "restore", str(whole)), range(2)))
    assert sorted(result.returncode for result in results) == [0, 78], [result.stderr for result in results]
    assert any("another restore was faster" in result.stderr for result in results)
    home = Path(server.environment["FASTMCP_HOME"])
    assert [path.name for path in home.iterdir()] == ["oauth-proxy"]
    restored = holdfast(server, "backup", "-").stdout
    assert sealed_in(restored) == sealed_in(whole.read_text())


def sealed_in(backup: str) -> list[str]:
    return sorted(re.findall(r'"sealed":"([^"]+)"', backup))


def test_nothing_is_overwritten(make_server: StartServer, whole: Path) -> None:
    server = make_server().start()
    onto_a_store = holdfast(server, "restore", str(whole))
    assert onto_a_store.returncode == 78
    assert "oauth-proxy is not empty" in onto_a_store.stderr
    before = whole.read_text()
    onto_a_file = holdfast(server, "backup", str(whole))
    assert onto_a_file.returncode == 2
    assert "exists already" in onto_a_file.stderr
    assert whole.read_text() == before


def test_a_file_that_cannot_be_read_or_written_is_named(make_server: StartServer, tmp_path: Path) -> None:
    server = make_server()
    missing = holdfast(server, "restore", str(tmp_path / "missing"))
    assert (missing.returncode, f"{tmp_path / 'missing'} cannot be restored" in missing.stderr) == (74, True)
    server.start()
    nowhere = holdfast(server, "backup", str(tmp_path / "no such directory/file"))
    assert (nowhere.returncode, "no such directory/file: No such file" in nowhere.stderr) == (74, True)
    full = holdfast(server, "backup", "-", stdout=Path("/dev/full"))
    assert (full.returncode, "nothing was backed up" in full.stderr) == (74, True)
