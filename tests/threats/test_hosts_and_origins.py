"""Who may ask at all: hosts that are ours, websites that may call, and proxies that are believed."""

import json
from collections.abc import Iterator

import httpx
import pytest

from harness.raw import exchange, statuses
from harness.server import Server
from harness.waiting import HANGS_AFTER
from integration.test_audit_log import events_in

INSPECTOR = "http://localhost:6274"
ALLOWED, FOREIGN = "https://app.example.com", "https://attacker.example"
INTERNAL, PUBLIC = "mcp.internal", "mcp.example.com"
CALL = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
PATHS = ("/", "/mcp", "/authorize", "/token", "/signin", "/.well-known/oauth-authorization-server", "/nothing")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    server = Server(
        directory / "data",
        directory / "server.log",
        HOLDFAST_BASE_URL=f"https://{PUBLIC}",
        HOLDFAST_ALLOWED_HOSTS=INTERNAL,
        HOLDFAST_ALLOWED_ORIGINS=ALLOWED,
        FORWARDED_ALLOW_IPS="127.0.0.1, 10.0.0.0/8",
    )
    yield server.start()
    server.stop()


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Host": PUBLIC}, timeout=HANGS_AFTER) as client:
        yield client


def preflight(http: httpx.Client, path: str, origin: str, method: str = "POST") -> httpx.Response:
    asked = "authorization, content-type, mcp-protocol-version, mcp-session-id, last-event-id"
    headers = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": asked}
    return http.options(path, headers=headers)


@pytest.mark.parametrize("host", ["attacker.example", "mcp.example.com.attacker.example", "localhost.attacker.example"])
@pytest.mark.parametrize("path", PATHS)
def test_a_website_that_points_its_name_here_gets_nothing(http: httpx.Client, host: str, path: str) -> None:
    refused = http.get(path, headers={"Host": host})
    assert (refused.status_code, refused.json()["error"]) == (421, "unknown_host")
    assert "HOLDFAST_BASE_URL" in refused.json()["error_description"]


@pytest.mark.parametrize(
    "host",
    [PUBLIC, f"{PUBLIC.upper()}:8443", f"{PUBLIC}.", INTERNAL, "localhost:1", "a.localhost", "127.0.0.1", "[::1]:80"],
)
def test_our_names_and_addresses_are_answered(http: httpx.Client, host: str) -> None:
    assert http.get("/.well-known/oauth-authorization-server", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_load_balancers_may_ask_for_its_health_by_any_name(server: Server, path: str) -> None:
    assert httpx.get(f"{server.url}{path}", headers={"Host": "10-0-0-7.node.example:8000"}).status_code == 200
    assert statuses(exchange(server.port, f"GET {path} HTTP/1.0\r\n\r\n".encode())) == [200]


@pytest.mark.parametrize(
    "fields", ["", "Host: localhost\r\nHost: localhost\r\n", "Host: a@localhost\r\n", "Host: \r\n"]
)
def test_a_request_names_one_host(server: Server, fields: str) -> None:
    request = f"GET /mcp HTTP/1.1\r\n{fields}Connection: close\r\n\r\n"
    assert statuses(exchange(server.port, request.encode())) == [400]


@pytest.mark.parametrize("origin", [INSPECTOR, ALLOWED, f"https://{PUBLIC}", "http://[::1]:3000"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_websites_that_are_named_and_those_of_this_machine_may_call(
    http: httpx.Client, origin: str, method: str
) -> None:
    allowed = preflight(http, "/mcp", origin, method)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == origin
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    refused = http.request(method, "/mcp", headers={"Origin": origin})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin)
    exposed = refused.headers["access-control-expose-headers"].lower().split(", ")
    assert {"mcp-session-id", "www-authenticate", "mcp-protocol-version"} <= set(exposed)


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", f"{ALLOWED}.attacker.example", "http://app.example.com", "http://localhost.example"]
)
def test_other_websites_may_not(http: httpx.Client, origin: str) -> None:
    for answer in (preflight(http, "/mcp", origin), http.post("/mcp", json=CALL, headers={"Origin": origin})):
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden_origin")
        assert "access-control-allow-origin" not in answer.headers
        assert "HOLDFAST_ALLOWED_ORIGINS" in answer.json()["error_description"]


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "app://desktop"}, {"Host": INTERNAL, "Origin": f"http://{INTERNAL}"}]
)
def test_programs_and_a_websites_own_pages_are_not_hindered(http: httpx.Client, headers: dict[str, str]) -> None:
    assert http.post("/mcp", json=CALL, headers=headers).status_code == 401


@pytest.mark.parametrize("path", ["/token", "/register", "/revoke", "/.well-known/oauth-authorization-server"])
def test_every_website_may_be_a_client(http: httpx.Client, path: str) -> None:
    method = "GET" if path.startswith("/.well") else "POST"
    allowed = preflight(http, path, FOREIGN, method)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "*")
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    for body in (b"{", b"x" * 70_000):
        answer = http.request(method, path, content=body, headers={"Origin": FOREIGN})
        assert answer.headers["access-control-allow-origin"] == "*"


def test_no_website_reads_a_page_or_sends_cookies_along(http: httpx.Client) -> None:
    for path in (*PATHS, "/consent", "/auth/callback"):
        for origin in (FOREIGN, ALLOWED, INSPECTOR):
            for answer in (http.get(path, headers={"Origin": origin, "Cookie": "a=b"}), preflight(http, path, origin)):
                assert "access-control-allow-credentials" not in answer.headers
                if path in {"/authorize", "/signin", "/consent", "/auth/callback"}:
                    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("claimed", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("203.0.113.9, 10.1.2.3, 127.0.0.1", "203.0.113.9"),
        ("203.0.113.9, nobody", "nobody"),
    ],
)
def test_a_proxy_is_believed_about_who_asked_it_and_nobody_before(
    server: Server, http: httpx.Client, claimed: str, address: str
) -> None:
    http.post("/register", headers={"X-Forwarded-For": claimed}, json={})
    assert events_in(server.output())[-1]["address"] == address


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP"])
def test_who_is_no_proxy_is_not_believed(server: Server, header: str) -> None:
    transport = httpx.HTTPTransport(local_address="127.0.0.7")
    with httpx.Client(base_url=server.url, transport=transport, headers={"Host": PUBLIC}) as http:
        http.post("/token", headers={header: "for=203.0.113.9" if header == "Forwarded" else "203.0.113.9"})
    assert events_in(server.output())[-1]["address"] == "127.0.0.7"


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "Forwarded", "X-Host"])
def test_no_header_moves_a_link(http: httpx.Client, header: str) -> None:
    spoofed = {header: "host=attacker.example;proto=http" if header == "Forwarded" else "attacker.example"}
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/mcp"):
        assert http.get(path, headers=spoofed).json() == http.get(path).json()
        assert "attacker" not in json.dumps(http.get(path, headers=spoofed).json())
    challenge = http.post("/mcp", json=CALL, headers=spoofed).headers["www-authenticate"]
    assert f"https://{PUBLIC}/.well-known/" in challenge


@pytest.mark.parametrize("path", ["/mcp", "/token", "/register", "/revoke", "/authorize", "/signin"])
@pytest.mark.parametrize("end", ["/", "//", "%0A", "%0A/"])
def test_our_paths_are_the_same_however_they_end(http: httpx.Client, path: str, end: str) -> None:
    for method in ("GET", "POST"):
        plain, other = (http.request(method, f"{written}?code=x") for written in (path, path + end))
        assert (other.status_code, other.headers.get("location")) == (plain.status_code, None)


def test_the_log_says_who_was_refused(server: Server, http: httpx.Client) -> None:
    http.get("/", headers={"Host": "attacker.example"})
    http.post("/mcp", headers={"Origin": FOREIGN})
    assert "host=attacker.example" in server.output()
    assert f"origin={FOREIGN}" in server.output()
