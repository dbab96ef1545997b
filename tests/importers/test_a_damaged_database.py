"""The crash that made people leave: FastMCP 2.14 does not start any more on a database that is damaged anywhere."""

import shutil
from pathlib import Path

import httpx
import pytest

from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.selection import in_every_run
from harness.waiting import HANGS_AFTER
from importers.conftest import RunHoldfast, StartHoldfast, sign_in_at
from importers.damage import DAMAGES, settle, share_without_locks
from importers.old_servers import LeftBehind, OldServer

VERSION = "fastmcp-2"
IN_EVERY_RUN = ("the header overwritten", "a page of the settings zeroed")


@pytest.fixture(scope="module")
def whole(identity_provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> LeftBehind:
    left = sign_in_at(VERSION, identity_provider, tmp_path_factory.mktemp(VERSION))
    settle(left.home / "oauth-proxy/cache.db")
    return left


@pytest.mark.parametrize("damage", in_every_run(IN_EVERY_RUN, DAMAGES))
def test_sessions_outlive_the_database_that_fastmcp_crashes_on(
    whole: LeftBehind, damage: str, start_holdfast: StartHoldfast, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(whole.home, home)
    DAMAGES[damage](home / "oauth-proxy/cache.db")
    damaged = (home / "oauth-proxy/cache.db").read_bytes()

    old = OldServer(VERSION, home, tmp_path / "old.log", **whole.settings())
    old.launch()
    assert old.wait_for_exit(HANGS_AFTER) != 0
    assert "sqlite3.DatabaseError" in old.output()

    (home / "oauth-proxy/cache.db").write_bytes(damaged)
    server = start_holdfast(home, **whole.settings())
    client = whole.next_client(server)
    assert client.call().is_success, server.output()
    assert client.refresh().is_success
    assert client.call().is_success


def test_sessions_outlive_two_servers_that_do_not_see_each_other_s_locks(
    identity_provider: IdentityProvider, start_holdfast: StartHoldfast, tmp_path: Path
) -> None:
    one = OldServer(VERSION, tmp_path / "one", tmp_path / "one.log")
    one.environment |= proxy_environment(identity_provider, one.url)
    settings = {name: value for name, value in one.environment.items() if name not in {"PORT", "FASTMCP_HOME"}}
    other = OldServer(VERSION, tmp_path / "other", tmp_path / "other.log", **settings)
    try:
        one.start()
        share_without_locks(tmp_path / "one/oauth-proxy", tmp_path / "other/oauth-proxy")
        other.start()
        with httpx.Client(base_url=one.url, timeout=HANGS_AFTER) as here, httpx.Client(base_url=other.url) as there:
            client = OAuthClient(here, person=ProxyPerson(quick=True)).sign_in()
            assert OAuthClient(there).register().status_code == 500
        # The reason is written after the answer.
        other.terminate()
        other.wait_for_exit(HANGS_AFTER)
    finally:
        one.stop()
        other.stop()
    assert "sqlite3.DatabaseError: database disk image is malformed" in other.output()

    server = start_holdfast(tmp_path / "one", **settings)
    client = LeftBehind(tmp_path / "one", settings, [client]).next_client(server)
    assert client.call().is_success, server.output()
    assert client.refresh().is_success


def test_what_is_left_of_half_a_database_is_carried_over_and_the_loss_is_told(
    whole: LeftBehind, start_holdfast: StartHoldfast, run_holdfast: RunHoldfast, tmp_path: Path
) -> None:
    half = tmp_path / "half.db"
    content = (whole.home / "oauth-proxy/cache.db").read_bytes()
    half.write_bytes(content[: len(content) // 2])
    server = start_holdfast(tmp_path / "data", **whole.settings())
    done = run_holdfast(server, "import", half)
    assert done.returncode == 0, done.stderr
    assert "registrations" in done.stdout
    assert "damaged" in done.stdout
