"""What `holdfast import` says and how it ends, when something is wrong."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.server import Server
from importers.conftest import RunHoldfast
from importers.state_files import vault_mcp_state
from importers.test_from_local_logins import client_of, signed_in


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory / "data", directory / "log").start()
    yield server
    server.stop()


def test_a_dry_run_tells_what_an_import_then_does(server: Server, run_holdfast: RunHoldfast, tmp_path: Path) -> None:
    one, gone = signed_in("one"), signed_in("gone", expired=True)
    state = vault_mcp_state(tmp_path / "state.json", [one, gone])
    dry = run_holdfast(server, "import", state, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "dry run: nothing was stored" in dry.stdout
    assert client_of(server, one).call().status_code == 401
    told = [json.loads(run_holdfast(server, "import", state, "--json", *how).stdout) for how in (["--dry-run"], [])]
    assert told[0].pop("dry_run") is True
    assert told[1].pop("dry_run") is False
    assert told[0] == told[1]
    assert told[1]["system"] == "vault-mcp"
    assert told[1]["carried_over"] == {"access tokens": 1, "refresh tokens": 2, "registrations": 2}
    assert told[1]["left"] == [{"what": "access tokens", "why": "expired", "count": 1}]
    assert client_of(server, one).call().is_success


def test_neither_tokens_nor_control_characters_of_the_source_reach_the_terminal(
    server: Server, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    one = signed_in("one\x1b[2J")
    directory = tmp_path / "a\x1b[31mstate"
    directory.mkdir()
    told = run_holdfast(server, "import", vault_mcp_state(directory / "state.json", [one]))
    assert told.returncode == 0
    for text in ("\x1b", one.access_token, one.refresh_token):
        assert text not in told.stdout + told.stderr


def key_that_is(make: Callable[[Path], object]) -> Callable[[Path], Path]:
    def made(directory: Path) -> Path:
        make(directory / "key")
        return directory / "key"

    return made


KEY_FILES = {
    "missing": (key_that_is(lambda path: None), "No such file"),
    "a directory": (key_that_is(Path.mkdir), "Is a directory"),
    "empty": (key_that_is(lambda path: path.write_text("\n")), "is empty"),
    "no text": (key_that_is(lambda path: path.write_bytes(b"\xff\xfe\x00")), "it is not text"),
    "a pipe": (key_that_is(os.mkfifo), "is not a regular file"),
}


@pytest.mark.parametrize(("make", "message"), KEY_FILES.values(), ids=KEY_FILES)
def test_a_key_file_that_is_none_is_named_with_the_reason(
    make: Callable[[Path], Path], message: str, server: Server, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    key = make(tmp_path)
    refused = run_holdfast(server, "import", tmp_path, "--key-file", key)
    assert refused.returncode == 66
    assert str(key) in refused.stderr
    assert message in refused.stderr


def test_a_source_that_is_not_there_is_named(server: Server, run_holdfast: RunHoldfast, tmp_path: Path) -> None:
    refused = run_holdfast(server, "import", tmp_path / "gone.db")
    assert refused.returncode == 66
    assert refused.stderr == f"{tmp_path / 'gone.db'} does not exist\n"


def test_a_volume_without_a_store_is_refused(run_holdfast: RunHoldfast, tmp_path: Path) -> None:
    state = vault_mcp_state(tmp_path / "state.json", [signed_in("one")])
    refused = run_holdfast(Server(tmp_path / "data", tmp_path / "log"), "import", state)
    assert refused.returncode == 78
    assert "FASTMCP_HOME" in refused.stderr
