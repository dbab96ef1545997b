"""What stops a start: always exit status 78 and one message with the variable, what is wrong and what to do."""

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from harness.engines.process import KEYS
from harness.environments import LINE, programs_of
from harness.oauth import OAuthClient
from harness.server import Server, free_port
from harness.waiting import HANGS_AFTER, eventually
from integration.conftest import StartServer

EXIT_CONFIG = 78

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Try to start a server that must not start, and return what it said."""

    def start(home: Path = tmp_path / "data", **environment: str) -> str:
        server = Server(home, tmp_path / "server.log", **environment)
        server.launch()
        try:
            assert server.wait_for_exit() == EXIT_CONFIG, server.output()
        finally:
            server.stop()
        assert "Traceback" not in server.output()
        return server.output()

    return start


def test_all_problems_are_told_at_once(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = refused(
        home=tmp_path / "file",
        PORT="99999",
        HOLDFAST_PIN="123456",
        HOLDFAST_SERVER="nothing.py",
        FASTMCP_SERVER_AUTH="no.such.Provider",
        WEB_CONCURRENCY="none",
        HOLDFAST_PINS="x",
    )
    expected = {
        "PORT",
        "HOLDFAST_PIN",
        "HOLDFAST_SERVER",
        "FASTMCP_SERVER_AUTH",
        "WEB_CONCURRENCY",
        "FASTMCP_HOME",
        "HOLDFAST_PINS",
    }
    assert {
        line.split(":")[0].removeprefix("  - ") for line in said.splitlines() if line.startswith("  - ")
    } == expected


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"HOLDFAST_SERVER": "nothing.py"}, "HOLDFAST_SERVER: "),
        ({"HOLDFAST_SERVER": "no_such_package.module:mcp"}, "HOLDFAST_SERVER: "),
        ({"HOLDFAST_SERVER": "mystery"}, "HOLDFAST_SERVER: "),
        ({"FASTMCP_SERVER_AUTH": "fastmcp.server.auth.providers.azure.AzurProvider"}, "FASTMCP_SERVER_AUTH: "),
        (
            {"FASTMCP_SERVER_AUTH": "fastmcp.server.auth.providers.github.GitHubProvider"},
            "FASTMCP_SERVER_AUTH_GITHUB_CLIENT_ID",
        ),
        ({"FASTMCP_SERVER_AUTH": "none"}, "HOLDFAST_ALLOW_ANONYMOUS=true"),
        ({"HOLDFAST_SERVER": "exasol", "EXA_DSN": "db:8563"}, "EXA_"),
        ({"EXA_MCP_STORAGE_BACKEND": "memory", "WEB_CONCURRENCY": "2"}, "WEB_CONCURRENCY: "),
        ({"EXA_MCP_STORAGE_BACKEND": "memory", "GUNICORN_CMD_ARGS": "--workers 2"}, "WEB_CONCURRENCY: "),
        ({"EXA_MCP_STORAGE_BACKEND": "disk", "HOLDFAST_STORAGE": "filetree"}, "EXA_MCP_STORAGE_BACKEND and "),
        ({"GUNICORN_CMD_ARGS": "--no-such-flag"}, "GUNICORN_CMD_ARGS: unrecognized arguments: --no-such-flag"),
        ({"GUNICORN_CMD_ARGS": "--workers 'one"}, "GUNICORN_CMD_ARGS: "),
        ({"GUNICORN_CMD_ARGS": "--workers 0"}, "WEB_CONCURRENCY: no worker would answer"),
        ({"GUNICORN_CMD_ARGS": "--worker-class sync"}, "--worker-class sync cannot run this server"),
        ({"HOLDFAST_PIN_FILE": "/no/such/secret", "HOLDFAST_PIN": ""}, "HOLDFAST_PIN_FILE: cannot read"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_PROPAGATORS": "b3"}, "OTEL_PROPAGATORS: names a"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SPAN_LINK_COUNT_LIMIT": "x"}, "LINK_COUNT_LIMIT must"),
    ],
)
def test_a_wrong_setting_stops_the_start(refused: Refused, environment: dict[str, str], says: str) -> None:
    assert says in refused(**environment)


def test_a_payload_that_fails_to_import_is_named_with_its_error(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('the database driver is missing')\n")
    said = refused(HOLDFAST_SERVER=str(tmp_path / "broken.py"))
    assert "HOLDFAST_SERVER: " in said
    assert "the database driver is missing" in said


@pytest.mark.parametrize("setting", ["HOLDFAST_SERVER", "FASTMCP_SERVER_AUTH"])
def test_a_module_that_exits_when_it_is_imported_is_named(refused: Refused, tmp_path: Path, setting: str) -> None:
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    value = "leaving:mcp" if setting == "HOLDFAST_SERVER" else "leaving.Provider"
    assert f"{setting}: " in refused(PYTHONPATH=str(tmp_path), **{setting: value})


@pytest.mark.parametrize("key", ["storage", "signing"])
def test_a_key_that_was_lost_is_not_replaced_silently(
    start_server: StartServer, refused: Refused, tmp_path: Path, key: str
) -> None:
    start_server().kill()
    (tmp_path / "data" / "keys" / f"{key}.key").unlink()
    said = refused(home=tmp_path / "data")
    assert f"HOLDFAST_{key.upper()}_KEY: is not set, and {tmp_path}/data/keys/{key}.key is missing" in said
    assert not (tmp_path / "data" / "keys" / f"{key}.key").exists()


def test_a_volume_in_memory_is_said_loudly(start_server: StartServer, tmp_path: Path) -> None:
    subprocess.run(["mount", "--mkdir", "-t", "tmpfs", "tmpfs", str(tmp_path / "memory")], check=True)
    try:
        assert "a restart loses every sign-in" in start_server(home=tmp_path / "memory").output()
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path / "memory")], check=True)


def test_a_port_in_use_is_named(refused: Refused) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"PORT: {port} is in use" in refused(PORT=port)


def test_a_volume_of_another_storage_key_is_refused(
    start_server: StartServer, refused: Refused, tmp_path: Path
) -> None:
    start_server().kill()
    said = refused(home=tmp_path / "data", HOLDFAST_STORAGE_KEY="k" * 40)
    assert "HOLDFAST_STORAGE_KEY: the store was sealed with another key" in said
    assert "keys/storage.key" in said


def test_a_store_that_cannot_be_opened_is_named(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "oauth-proxy").write_text("not a directory")
    assert f"FASTMCP_HOME: cannot use {tmp_path}/data/oauth-proxy" in refused(home=tmp_path / "data")


@pytest.mark.parametrize("planted", ["file", "link"])
def test_a_collection_that_cannot_be_opened_is_named(
    start_server: StartServer, refused: Refused, tmp_path: Path, planted: str
) -> None:
    start_server().kill()
    collection = tmp_path / "data" / "oauth-proxy" / "holdfast"
    shutil.rmtree(collection)
    if planted == "file":
        collection.write_text("not a directory")
    else:
        (tmp_path / "elsewhere").mkdir()
        collection.symlink_to(tmp_path / "elsewhere")
    assert f"FASTMCP_HOME: cannot use {tmp_path}/data/oauth-proxy" in refused(home=tmp_path / "data")


def test_the_memory_backend_says_that_restarts_lose_logins(start_server: StartServer) -> None:
    server = start_server(EXA_MCP_STORAGE_BACKEND="memory")
    assert "the memory backend loses every sign-in at a restart" in server.output()


def test_no_authentication_is_served_only_where_asked_for_and_said_loudly(start_server: StartServer) -> None:
    server = start_server(FASTMCP_SERVER_AUTH="none", HOLDFAST_ALLOW_ANONYMOUS="true")
    assert "serving without authentication" in server.output()
    assert httpx.post(f"{server.url}/mcp", json={}).status_code != 401


def test_flags_of_gunicorn_are_heard(start_server: StartServer) -> None:
    server = start_server(GUNICORN_CMD_ARGS="--workers 2")
    eventually(lambda: server.output().count("Booting worker"), lambda count: count == 2)


def test_the_start_is_told_in_one_line_with_the_volume_and_where_the_keys_are(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(HOLDFAST_STORAGE_KEY="k" * 40)
    (line,) = [line for line in server.output().splitlines() if " starting " in line]
    for field in ("server=demo", "login=local", "storage=filetree", f"home={tmp_path}/data", "file_system=", "rw,"):
        assert field in line
    assert "storage_key=HOLDFAST_STORAGE_KEY" in line
    assert f"signing_key={tmp_path}/data/keys/signing.key" in line
    assert "k" * 40 not in server.output()


@pytest.mark.parametrize("backend", ["filetree", "disk"])
def test_the_start_tells_how_much_it_found(start_server: StartServer, backend: str) -> None:
    server = start_server(EXA_MCP_STORAGE_BACKEND=backend)
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        OAuthClient(http).sign_in()
        OAuthClient(http).register(client_name="one that only registered")
    server.restart()
    first, second = [line for line in server.output().splitlines() if " starting " in line]
    assert "clients=0 sessions=0 registrations=0" in first
    assert "clients=2 sessions=1 registrations=2" in second


def test_log_lines_are_json_where_asked_for(start_server: StartServer) -> None:
    server = start_server(LOG_FORMAT="json")
    lines = [line for line in server.output().splitlines() if '"message": "starting"' in line]
    assert len(lines) == 1
    assert '"server": "demo"' in lines[0]


def refusal_of(server: Server) -> str:
    """What is said by a server that does not start."""
    before = len(server.output())
    server.launch()
    assert server.wait_for_exit() == 78
    return server.output()[before:]


def test_a_signing_key_that_is_forgotten_stops_the_start(start_server: StartServer) -> None:
    old, new = "the-signing-key-until-now-of-enough-length", "the-next-signing-key-of-enough-length"
    server = start_server(HOLDFAST_SIGNING_KEY=old)
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http).sign_in()
        server.stop()
        server.environment["HOLDFAST_SIGNING_KEY"] = new
        assert "HOLDFAST_SIGNING_KEY: is not the key that signed the tokens" in refusal_of(server)
        server.environment["HOLDFAST_SIGNING_KEY_PREVIOUS"] = old
        server.start()
        assert client.call().status_code == 200
        server.stop()
        del server.environment["HOLDFAST_SIGNING_KEY_PREVIOUS"]
        assert "everybody would be signed out" in refusal_of(server)
        assert old not in server.output()
        assert new not in server.output()
        # Where that is what is wanted.
        settings = {"PATH": "/usr/bin:/bin", **server.environment}
        command = [str(programs_of(LINE) / "holdfast"), "revoke", "--all", "--yes"]
        subprocess.run(command, env=settings, check=True, capture_output=True)
        server.start()
        assert client.refresh().json()["error"] == "invalid_grant"


def test_a_restore_that_was_cut_off_stops_the_start(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    server.stop()
    shutil.rmtree(tmp_path / "data" / "oauth-proxy")
    (tmp_path / "data" / ".r-abcdefgh").mkdir()
    assert "FASTMCP_HOME: " in (said := refusal_of(server))
    assert ".r-abcdefgh is of a restore that was cut off, or is under way" in said
    (tmp_path / "data" / ".r-abcdefgh").rmdir()
    server.start()


class TestCheck:
    def check(self, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(programs_of(LINE) / "holdfast"), "check"]
        environment = {"FASTMCP_HOME": str(home), "PATH": "/usr/bin:/bin", **environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    @pytest.mark.parametrize("variable", ["HOLDFAST_STORAGE_KEY", "HOLDFAST_SIGNING_KEY"])
    def test_tells_of_a_key_that_is_not_the_stores(
        self, start_server: StartServer, tmp_path: Path, variable: str
    ) -> None:
        server = start_server()
        with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
            OAuthClient(http).sign_in()
        assert self.check(tmp_path / "data").returncode == 0
        # It gives leases back and sweeps whenever it likes.
        server.stop()
        before = sorted(path for path in (tmp_path / "data").rglob("*") if path.suffix != ".tmp")
        checked = self.check(tmp_path / "data", **{variable: "another-key-of-more-than-enough-characters"})
        assert (checked.returncode, f"{variable}: " in checked.stderr) == (78, True)
        assert sorted(path for path in (tmp_path / "data").rglob("*") if path.suffix != ".tmp") == before

    def test_tells_what_would_run(self, tmp_path: Path) -> None:
        checked = self.check(tmp_path)
        assert checked.returncode == 0
        assert "server   demo" in checked.stdout
        assert f"storage  filetree in {tmp_path}" in checked.stdout
        assert list(tmp_path.iterdir()) == []

    def test_tells_the_effective_configuration_without_its_secrets(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("a-secret-of-the-provider")
        prefix = "FASTMCP_SERVER_AUTH_GITHUB_"
        github = {"CLIENT_ID": "an-id", "CLIENT_SECRET_FILE": str(tmp_path / "secret"), "TIMEOUT_SECONDS": "1m"}
        variables = {f"{prefix}{name}": value for name, value in github.items()}
        consent = {f"{prefix}REQUIRE_AUTHORIZATION_CONSENT": "off"}
        checked = self.check(tmp_path, FASTMCP_SERVER_AUTH="github", **variables, **consent)
        assert checked.returncode == 0
        rows = [tuple(re.split(r"  +", line, maxsplit=2)) for line in checked.stdout.splitlines()]
        assert ("HOLDFAST_SIGNING_KEY", f"generated, in {tmp_path}/keys/signing.key", "***") in rows
        assert ("HOLDFAST_REFRESH_AHEAD", "default", "30s") in rows
        assert (f"{prefix}CLIENT_ID", "environment", "an-id") in rows
        assert (f"{prefix}CLIENT_SECRET", f"{prefix}CLIENT_SECRET_FILE={tmp_path}/secret", "***") in rows
        assert (f"{prefix}TIMEOUT_SECONDS", "environment", "60") in rows
        assert (f"{prefix}ENABLE_CIMD", "default", "true") in rows
        assert "a-secret-of-the-provider" not in checked.stdout + checked.stderr
        assert f"{prefix}REQUIRE_AUTHORIZATION_CONSENT turns the consent page off" in checked.stderr

    def test_tells_what_only_the_provider_itself_refuses(self, tmp_path: Path) -> None:
        prefix = "FASTMCP_SERVER_AUTH_AZURE_"
        given = {
            "CLIENT_ID": "an-id",
            "CLIENT_SECRET": "a-secret",
            "TENANT_ID": "a-tenant",
            "REQUIRED_SCOPES": "openid",
        }
        azure = {f"{prefix}{name}": value for name, value in given.items()}
        checked = self.check(tmp_path, FASTMCP_SERVER_AUTH="azure", **azure)
        assert (checked.returncode, f"Check {prefix}REQUIRED_SCOPES" in checked.stderr) == (EXIT_CONFIG, True)

    def test_says_that_a_server_would_wait_for_its_provider(self, tmp_path: Path) -> None:
        prefix, nowhere = "FASTMCP_SERVER_AUTH_OIDC_", f"http://localhost:{free_port()}/"
        given = {"CLIENT_ID": "an-id", "CLIENT_SECRET": "a-secret", "CONFIG_URL": nowhere}
        oidc = {f"{prefix}{name}": value for name, value in given.items()}
        checked = self.check(tmp_path, FASTMCP_SERVER_AUTH="oidc", **oidc)
        assert checked.returncode == 0
        assert "A server would wait for the identity provider: localhost cannot be reached" in checked.stderr

    def test_warns_of_what_is_hardly_meant(self, tmp_path: Path) -> None:
        hardly = {"FASTMCP_SERVER_AUTH_AZURE_TENANT_ID": "a-tenant", "HOLDFAST_BASE_URL": "https://mcp.example.com/mcp"}
        checked = self.check(tmp_path, **hardly)
        assert checked.returncode == 0
        assert "FASTMCP_SERVER_AUTH_AZURE_TENANT_ID is not read: FASTMCP_SERVER_AUTH is local" in checked.stderr
        assert "HOLDFAST_BASE_URL ends with /mcp" in checked.stderr

    def test_tells_all_problems(self, tmp_path: Path) -> None:
        checked = self.check(tmp_path, PORT="0", LOG_LEVEL="loud")
        assert checked.returncode == EXIT_CONFIG
        assert "PORT: " in checked.stderr
        assert "LOG_LEVEL: " in checked.stderr


def test_a_server_that_waits_for_its_store_ends_when_it_is_told_to(tmp_path: Path) -> None:
    nobody = {"HOLDFAST_STORAGE_URL": f"redis://127.0.0.1:{free_port()}/0", "HOLDFAST_STORAGE_WAIT": "5m", **KEYS}
    server = Server(tmp_path / "data", tmp_path / "log", **nobody)
    server.launch()
    eventually(server.output, lambda log: "waiting for the store" in log)
    server.terminate()
    # By itself: Linux does not end the first process of a container by a signal that it does not handle.
    assert server.wait_for_exit() == 128 + signal.SIGTERM
