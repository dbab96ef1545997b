"""Who leaves FastMCP for Holdfast: OAuthProxy of versions 2.14, 3 and 4, with sessions at a real OpenID provider."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.selection import in_every_run
from importers.conftest import VERSIONS, RunHoldfast, StartHoldfast
from importers.old_servers import LeftBehind

Copy = Callable[[LeftBehind], LeftBehind]

of_one_version = pytest.mark.parametrize("left_behind", ["fastmcp-2"], indirect=True, scope="module")
"""For what does not depend on how the old server kept its records."""

one_version_in_every_run = pytest.mark.parametrize(
    "left_behind", in_every_run(("fastmcp-3",), VERSIONS), indirect=True, scope="module"
)
"""For what reads those records as a first start does, which is tried with all of them."""


def state_of(directory: Path) -> dict[str, tuple[str, int]]:
    """Every file with the hash of its content and its time of change."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {
        str(file.relative_to(directory)): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in files
    }


def oauth_proxy(left: LeftBehind) -> Path:
    return left.home / "oauth-proxy"


def test_a_session_lives_on_when_holdfast_is_first_started_on_the_old_volume(
    left_behind: LeftBehind, copied: Copy, start_holdfast: StartHoldfast
) -> None:
    left = copied(left_behind)
    before = state_of(left.home)
    server = start_holdfast(left.home, **left.settings())
    client = left.next_client(server)
    assert client.call().is_success, "the old server's access token is good until it expires"
    refreshed = client.refresh()
    assert refreshed.is_success, refreshed.text
    assert client.call_tool("whoami").is_success
    assert client.refresh().is_success
    assert "imported another server's state" in server.output()
    server.stop()
    after = state_of(left.home)
    assert {name: after.get(name) for name in before} == before, "the old server's state was changed"


@one_version_in_every_run
def test_a_sweep_leaves_the_old_server_s_files_alone(
    left_behind: LeftBehind, copied: Copy, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast
) -> None:
    left = copied(left_behind)
    before = state_of(left.home)
    server = start_holdfast(left.home, **left.settings())
    assert run_holdfast(server, "sweep").returncode == 0
    server.stop()
    after = state_of(left.home)
    assert {name: after.get(name) for name in before} == before


@one_version_in_every_run
def test_a_session_lives_on_after_the_command(
    left_behind: LeftBehind, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    server = start_holdfast(tmp_path / "data", **left_behind.settings())
    before = state_of(left_behind.home)
    dry = run_holdfast(server, "import", left_behind.home, "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    assert json.loads(dry.stdout)["carried_over"]["registrations"] >= len(left_behind.clients)
    client = left_behind.next_client(server)
    assert client.call().status_code == 401, "the dry run stored something"
    done = run_holdfast(server, "import", left_behind.home, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["carried_over"] == json.loads(dry.stdout)["carried_over"]
    assert state_of(left_behind.home) == before, "the source was changed"
    server.restart()
    assert client.refresh().is_success
    assert client.call().is_success


@of_one_version
def test_importing_again_changes_nothing_and_brings_back_no_session_that_was_revoked(
    left_behind: LeftBehind, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    server = start_holdfast(tmp_path / "data", **left_behind.settings())
    first = json.loads(run_holdfast(server, "import", left_behind.home, "--json").stdout)
    server.restart()
    client = left_behind.next_client(server)
    assert client.call().is_success
    assert run_holdfast(server, "revoke", "--client", client.client_id).returncode == 0
    again = json.loads(run_holdfast(server, "import", left_behind.home, "--json").stdout)
    assert again["carried_over"] == dict.fromkeys(first["carried_over"], 0)
    assert again["already_here"] == first["carried_over"]
    server.restart()
    assert client.call().status_code == 401
    assert not client.refresh().is_success


@of_one_version
def test_a_refresh_token_that_was_used_since_is_not_brought_back(
    left_behind: LeftBehind, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    server = start_holdfast(tmp_path / "data", HOLDFAST_REFRESH_GRACE="0", **left_behind.settings())
    run_holdfast(server, "import", left_behind.home)
    server.restart()
    client = left_behind.next_client(server)
    old_refresh_token = client.tokens["refresh_token"]
    assert client.refresh().is_success
    run_holdfast(server, "import", left_behind.home)
    assert not client.refresh(old_refresh_token).is_success


@of_one_version
def test_registrations_and_sessions_are_listed_after_an_import(
    left_behind: LeftBehind, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    server = start_holdfast(tmp_path / "data", **left_behind.settings())
    run_holdfast(server, "import", left_behind.home)
    registered = {one["client_id"] for one in json.loads(run_holdfast(server, "clients", "--json").stdout)}
    signed_in = {one["client_id"] for one in json.loads(run_holdfast(server, "sessions", "--json").stdout)}
    expected = {client.client_id for client in left_behind.clients}
    assert expected <= registered
    assert expected <= signed_in


@of_one_version
def test_another_client_secret_than_the_old_one_is_asked_for_by_name(
    left_behind: LeftBehind, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    settings = left_behind.settings()
    name = "FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_CLIENT_SECRET"
    old_secret, settings[name] = settings[name], "a-new-client-secret-since-then-0002"
    server = start_holdfast(tmp_path / "data", **settings)
    refused = run_holdfast(server, "import", left_behind.home)
    assert refused.returncode == 66
    assert "--key-file" in refused.stderr
    assert "client secret" in refused.stderr
    secret = tmp_path / "old-secret"
    secret.write_text(f"{old_secret}\n")
    done = run_holdfast(server, "import", left_behind.home, "--key-file", secret)
    assert done.returncode == 0, done.stderr
    assert old_secret not in refused.stderr + done.stdout + done.stderr + server.output()
    server.restart()
    assert left_behind.next_client(server).call().is_success


@of_one_version
def test_the_built_in_login_refuses_sessions_of_an_identity_provider(
    left_behind: LeftBehind, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    server = start_holdfast(tmp_path / "data")
    secret = tmp_path / "secret"
    secret.write_text(left_behind.environment["FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_CLIENT_SECRET"])
    refused = run_holdfast(server, "import", left_behind.home, "--key-file", secret)
    assert refused.returncode == 66
    assert "FASTMCP_SERVER_AUTH" in refused.stderr


@of_one_version
def test_a_session_is_still_one_session_after_its_first_refresh(
    left_behind: LeftBehind, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    server = start_holdfast(tmp_path / "data", HOLDFAST_TOKEN_CACHE="0", **left_behind.settings())
    run_holdfast(server, "import", left_behind.home)
    server.restart()
    client = left_behind.next_client(server)
    assert client.refresh().is_success
    listed = json.loads(run_holdfast(server, "sessions", "--client", client.client_id, "--json").stdout)
    assert [session["user"] for session in listed] == ["ada"]
    assert run_holdfast(server, "revoke", "--client", client.client_id).returncode == 0
    assert client.call().status_code == 401
    assert not client.refresh().is_success
