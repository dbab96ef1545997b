"""`holdfast doctor` tells what a server would find where it is to run."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.identity_provider import IdentityProvider
from harness.proxy_login import proxy_environment
from harness.server import Server, free_port
from integration.conftest import StartServer
from integration.test_cli import holdfast
from mcp_holdfast.examination import Finding, Verdict, within
from mcp_holdfast.settings import EXIT_CONFIG

EXIT_PROBLEM = 1
KEYS = {"HOLDFAST_STORAGE_KEY": "k" * 32, "HOLDFAST_SIGNING_KEY": "s" * 32}

Findings = dict[str, dict[str, Any]]


@pytest.fixture
def place(tmp_path: Path) -> Server:
    """Where a server could run; it does not."""
    return Server(tmp_path / "data", tmp_path / "server.log")


def examined(place: Server, environment: Mapping[str, str] | None = None, *, status: int = 0) -> Findings:
    """What was found, by subject; of several of one subject the worst."""
    result = holdfast(place, "doctor", "--json", **(environment or {}))
    assert (result.returncode, result.stderr) == (status, "")
    told = json.loads(result.stdout)
    assert told["status"] == status
    order = ["good", "warning", "problem"]
    findings = sorted(told["findings"], key=lambda finding: order.index(finding["verdict"]))
    return {finding["subject"]: finding for finding in findings}


def test_a_place_is_told_of_for_people(place: Server) -> None:
    result = holdfast(place, "doctor")
    assert (result.returncode, result.stderr) == (0, "")
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["verdict", "subject", "found"]
    for subject in ("memory", "cpu", "volume", "volume space", "volume speed", "clock", "keys", "public URL"):
        assert any(row.split("  ")[1:] and subject in row for row in rows), subject
    keys = f"{place.environment['FASTMCP_HOME']}/keys"
    assert f"keys: Keep them apart: set HOLDFAST_STORAGE_KEY and HOLDFAST_SIGNING_KEY to what is in {keys}" in rows


def test_a_volume_is_timed_and_left_as_it_was(place: Server) -> None:
    findings = examined(place, KEYS)
    assert {findings[subject]["verdict"] for subject in ("volume", "volume space", "clock", "keys")} == {"good"}
    speed = findings["volume speed"]["found"]
    assert all(f"{operation} " in speed for operation in ("write and fsync", "rename and fsync", "read"))
    assert list(Path(place.environment["FASTMCP_HOME"]).iterdir()) == []


def test_what_stops_a_start_stops_here_with_the_same_status(place: Server, tmp_path: Path) -> None:
    findings = examined(place, {"HOLDFAST_LEASE": "soon"}, status=EXIT_CONFIG)
    assert (findings["HOLDFAST_LEASE"]["verdict"], bool(findings["HOLDFAST_LEASE"]["remedy"])) == ("problem", True)
    (tmp_path / "file").write_text("")
    findings = examined(place, {"FASTMCP_HOME": str(tmp_path / "file")}, status=EXIT_CONFIG)
    assert findings["FASTMCP_HOME"]["found"].endswith("is not a directory")


def test_a_store_of_other_keys_is_told(start_server: StartServer) -> None:
    server = start_server(**KEYS)
    server.stop()
    findings = examined(server, {"HOLDFAST_STORAGE_KEY": "o" * 32}, status=EXIT_CONFIG)
    assert "was sealed with another key" in findings["HOLDFAST_STORAGE_KEY"]["found"]


def test_no_secret_is_printed(place: Server) -> None:
    printed = json.dumps(examined(place, KEYS))
    assert not any(key in printed for key in KEYS.values())


class TestThePublicURL:
    def test_leads_to_the_server(self, start_server: StartServer) -> None:
        server = start_server()
        assert examined(server)["public URL"]["found"] == f"{server.url} leads to this configuration"

    def test_that_leads_to_a_server_of_another_name_is_a_problem(self, start_server: StartServer) -> None:
        server = start_server(HOLDFAST_BASE_URL="https://other.example.com")
        findings = examined(server, {"HOLDFAST_BASE_URL": server.url}, status=EXIT_PROBLEM)
        assert "answers a server that calls itself https://other.example.com/mcp" in findings["public URL"]["found"]

    def test_that_leads_to_something_else_is_a_warning(self, place: Server, provider: IdentityProvider) -> None:
        finding = examined(place, {"HOLDFAST_BASE_URL": provider.url})["public URL"]
        assert (finding["verdict"], "no server of this kind" in finding["found"]) == ("warning", True)

    def test_that_cannot_be_reached_from_here_is_a_warning(self, place: Server) -> None:
        finding = examined(place)["public URL"]
        assert (finding["verdict"], "cannot be reached from here" in finding["found"]) == ("warning", True)

    def test_behind_a_proxy_that_is_not_trusted_is_a_warning(self, place: Server) -> None:
        public = {"HOLDFAST_BASE_URL": f"https://behind.localhost.example:{free_port()}"}
        assert examined(place, public)["FORWARDED_ALLOW_IPS"]["verdict"] == "warning"
        assert "FORWARDED_ALLOW_IPS" not in examined(place, {**public, "FORWARDED_ALLOW_IPS": "10.0.0.0/16"})


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


class TestTheIdentityProvider:
    def test_answers(self, place: Server, provider: IdentityProvider) -> None:
        finding = examined(place, proxy_environment(provider, place.url))["identity provider"]
        assert (finding["verdict"], finding["found"].startswith(provider.url)) == ("good", True)

    def test_that_does_not_answer_is_a_problem(self, place: Server, provider: IdentityProvider) -> None:
        environment = proxy_environment(provider, place.url)
        nowhere = f"http://localhost:{free_port()}/token"
        environment["FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_TOKEN_ENDPOINT"] = nowhere
        finding = examined(place, environment, status=EXIT_PROBLEM)["identity provider"]
        assert (finding["verdict"], finding["found"].startswith(nowhere)) == ("problem", True)

    def test_that_is_asked_for_its_configuration_and_does_not_answer_is_a_problem(self, place: Server) -> None:
        nowhere = f"localhost:{free_port()}"
        environment = {
            "FASTMCP_SERVER_AUTH": "oidc",
            "FASTMCP_SERVER_AUTH_OIDC_CONFIG_URL": f"http://{nowhere}/.well-known/openid-configuration",
            "FASTMCP_SERVER_AUTH_OIDC_CLIENT_ID": "holdfast",
            "FASTMCP_SERVER_AUTH_OIDC_CLIENT_SECRET": "of-the-client",
        }
        finding = examined(place, environment, status=EXIT_PROBLEM)["identity provider"]
        assert "cannot be reached" in finding["found"]

    def test_that_has_a_password_in_its_address_keeps_it(self, place: Server, provider: IdentityProvider) -> None:
        environment = proxy_environment(provider, place.url)
        nowhere = f"localhost:{free_port()}"
        environment["FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_TOKEN_ENDPOINT"] = f"http://me:hunter2@{nowhere}/token"
        finding = examined(place, environment, status=EXIT_PROBLEM)["identity provider"]
        assert nowhere in finding["found"]
        assert "hunter2" not in json.dumps(finding)

    def test_that_answers_nonsense_is_no_reason_to_fail(self, place: Server, provider: IdentityProvider) -> None:
        environment = proxy_environment(provider, place.url)
        with in_the_past(**{"Content-Encoding": "gzip"}) as url:
            environment["FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_TOKEN_ENDPOINT"] = f"{url}/token"
            environment["HOLDFAST_BASE_URL"] = url
            finding = examined(place, environment)["public URL"]
        assert finding["verdict"] == "warning"

    def test_that_has_another_time_is_a_warning(self, place: Server, provider: IdentityProvider) -> None:
        environment = proxy_environment(provider, place.url)
        with in_the_past() as url:
            environment["FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_TOKEN_ENDPOINT"] = f"{url}/token"
            finding = examined(place, environment)["clock"]
        assert finding["verdict"] == "warning"
        assert "s ahead of that of 127.0.0.1" in finding["found"]


@contextmanager
def in_the_past(**headers: str) -> Iterator[str]:
    """Answer with a Date of years ago, these headers, and a body that is just text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(405)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"text")

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(0)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_what_hangs_is_a_problem_and_not_waited_for() -> None:
    goes_on = threading.Event()

    def hang() -> list[Finding]:
        goes_on.wait()
        return []

    try:
        (finding,) = await within(0.01, "volume", hang, "Bring it back")
    finally:
        goes_on.set()
    assert (finding.verdict, finding.what) == (Verdict.PROBLEM, "has not answered for 0.01 s")
