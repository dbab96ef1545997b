"""Holdfast imports by itself where it is certain what is meant, and says how to do it where it is not."""

import json
import shutil
from pathlib import Path

from harness.identity_provider import IdentityProvider
from importers.conftest import RunHoldfast, StartHoldfast, sign_in_at
from importers.state_files import otterwiki_database, vault_mcp_state
from importers.test_from_local_logins import client_of, signed_in

IMPORTED = "imported another server's state"
NOT_IMPORTED = "holdfast import SOURCE"


def test_of_two_sources_none_is_imported_and_the_command_is_named(
    start_holdfast: StartHoldfast, tmp_path: Path
) -> None:
    one, other = signed_in("one"), signed_in("other")
    sources = {
        "OAUTH_STATE_PATH": str(vault_mcp_state(tmp_path / "state.json", [one])),
        "MCP_OAUTH_DB": str(otterwiki_database(tmp_path / "oauth.db", [other])),
    }
    server = start_holdfast(tmp_path / "data", **sources)
    assert IMPORTED not in server.output()
    assert NOT_IMPORTED in server.output()
    assert client_of(server, one).call().status_code == 401


def test_a_store_with_clients_is_left_as_it_is(
    start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    one = signed_in("one")
    server = start_holdfast(tmp_path / "data")
    assert client_of(server, one).register().is_success
    server.kill()
    server.environment["OAUTH_STATE_PATH"] = str(vault_mcp_state(tmp_path / "state.json", [one]))
    server.start()
    assert IMPORTED not in server.output()
    assert NOT_IMPORTED in server.output()
    assert run_holdfast(server, "import", server.environment["OAUTH_STATE_PATH"]).returncode == 0
    assert client_of(server, one).call().is_success


def test_a_source_that_was_imported_is_not_looked_at_again(start_holdfast: StartHoldfast, tmp_path: Path) -> None:
    one, late = signed_in("one"), signed_in("late")
    state = vault_mcp_state(tmp_path / "state.json", [one])
    server = start_holdfast(tmp_path / "data", OAUTH_STATE_PATH=str(state))
    vault_mcp_state(state, [one, late])
    server.restart()
    assert server.output().count(IMPORTED) == 1
    assert NOT_IMPORTED not in server.output()
    assert client_of(server, late).call().status_code == 401


def test_an_import_that_fails_keeps_nobody_from_starting_and_is_tried_again(
    start_holdfast: StartHoldfast, tmp_path: Path
) -> None:
    one = signed_in("one")
    state = vault_mcp_state(tmp_path / "state.json", [one])
    whole = state.read_text()
    state.write_text(whole[: len(whole) // 2])
    server = start_holdfast(tmp_path / "data", OAUTH_STATE_PATH=str(state))
    assert "could not import another server's state" in server.output()
    assert client_of(server, one).register().is_success
    state.write_text(whole)
    server.restart()
    assert IMPORTED in server.output()
    assert client_of(server, one).call().is_success


def test_what_would_keep_a_start_waiting_is_left_to_the_command(start_holdfast: StartHoldfast, tmp_path: Path) -> None:
    state = vault_mcp_state(tmp_path / "state.json", [signed_in(f"client-{number}") for number in range(334)])
    server = start_holdfast(tmp_path / "data", OAUTH_STATE_PATH=str(state))
    assert IMPORTED not in server.output()
    assert NOT_IMPORTED in server.output()


def test_the_memory_backend_imports_nothing(start_holdfast: StartHoldfast, tmp_path: Path) -> None:
    state = vault_mcp_state(tmp_path / "state.json", [signed_in("one")])
    server = start_holdfast(tmp_path / "data", EXA_MCP_STORAGE_BACKEND="memory", OAUTH_STATE_PATH=str(state))
    assert IMPORTED not in server.output()


def test_a_source_with_a_link_in_it_is_followed_nowhere(
    start_holdfast: StartHoldfast, identity_provider: IdentityProvider, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    left = sign_in_at("fastmcp-3", identity_provider, tmp_path)
    tree = next((left.home / "oauth-proxy").iterdir())
    clients = next(path for path in tree.iterdir() if path.is_dir() and "clients" in path.name)
    shutil.move(clients, tmp_path / "elsewhere")
    clients.symlink_to(tmp_path / "elsewhere")
    server = start_holdfast(tmp_path / "data", **left.settings())
    told = json.loads(run_holdfast(server, "import", left.home, "--json").stdout)
    assert "registrations" not in told["carried_over"]
    assert {"what": "registrations", "why": "damaged", "count": 1} in told["left"]


def test_of_several_trees_the_one_whose_key_is_configured_is_imported(
    start_holdfast: StartHoldfast, identity_provider: IdentityProvider, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    left = sign_in_at("fastmcp-3", identity_provider, tmp_path)
    tree = next((left.home / "oauth-proxy").iterdir())
    shutil.copytree(tree, tree.with_name("0123456789ab"))
    server = start_holdfast(left.home, **left.settings())
    assert IMPORTED in server.output()
    assert left.next_client(server).call().is_success
    told = json.loads(run_holdfast(server, "import", left.home, "--json").stdout)
    assert told["source"] == str(tree)
    assert {"what": "stores beside this one", "why": "encrypted with another key", "count": 1} in told["left"]
