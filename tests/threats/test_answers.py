"""What every answer says of itself, what none says of the server, and how much the server takes in."""

import json
from collections.abc import Iterator

import httpx
import pytest

from harness.oauth import OAuthClient, Person
from harness.raw import exchange, statuses
from harness.server import Server
from harness.waiting import HANGS_AFTER
from mcp_holdfast.auth.machine_tokens import hash_of, made_up_token

METRICS_TOKEN = "a-token-of-more-than-thirty-two-characters"
TOKEN = made_up_token()
PUBLIC = "mcp.example.com"
LONGEST_OAUTH, LONGEST_CALL = 64 * 1024, 4 * 1024 * 1024
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    server = Server(
        directory / "data",
        directory / "server.log",
        HOLDFAST_BASE_URL=f"https://{PUBLIC}",
        HOLDFAST_METRICS_TOKEN=METRICS_TOKEN,
        HOLDFAST_TOKENS=json.dumps({"ci": {"token_hash": hash_of(TOKEN), "expires_at": "2999-01-01"}}),
    )
    yield server.start()
    server.stop()


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"Host": PUBLIC}, timeout=HANGS_AFTER) as client:
        yield client


def every_kind_of_answer(server: Server, http: httpx.Client) -> dict[str, httpx.Response]:
    client = OAuthClient(http)
    registered = client.register()
    sent_on = client.authorize()
    page = httpx.URL(sent_on.headers["location"]).raw_path.decode()
    approved = Person(http).approve(page)
    code = httpx.URL(approved.headers["location"]).params["code"]
    bearer = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    return {
        "health": http.get("/livez"),
        "metadata": http.get("/.well-known/oauth-authorization-server"),
        "registration": registered,
        "redirect": sent_on,
        "page": http.get(page),
        "redirect to the client": approved,
        "tokens": client.redeem(code),
        "refused tokens": client.redeem("nobody's"),
        "no such client": http.get("/authorize", params={"client_id": "x"}, headers={"Accept": "text/html"}),
        "challenge": http.post("/mcp", json=ping),
        "call": http.post("/mcp", json=ping, headers=bearer),
        "opened session": client.call(),
        "metrics": http.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}),
        "no metrics": http.get("/metrics"),
        "nothing there": http.get("/nothing"),
        "wrong method": http.put("/token"),
        "preflight": http.options(
            "/mcp", headers={"Origin": "http://localhost", "Access-Control-Request-Method": "GET"}
        ),
        "another host": http.get("/", headers={"Host": "attacker.example"}),
        "a website": http.post("/mcp", headers={"Origin": "https://attacker.example"}),
        "too long": http.post("/token", content=b"x" * (LONGEST_OAUTH + 1), headers=FORM),
        "multipart": http.post("/token", files={"code": b"x"}),
    }


def test_every_answer_tells_browsers_what_not_to_do(server: Server, http: httpx.Client) -> None:
    for name, answer in every_kind_of_answer(server, http).items():
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"], name
        assert answer.headers.get_list("referrer-policy") == ["no-referrer"], name
        assert answer.headers.get_list("strict-transport-security") == ["max-age=31536000"], name
        if answer.headers.get("content-type", "").startswith("text/html"):
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], name
            assert answer.headers["x-frame-options"] == "DENY", name


def test_nothing_of_a_sign_in_is_kept_by_anybody(server: Server, http: httpx.Client) -> None:
    answers = every_kind_of_answer(server, http)
    public = {"health", "metadata", "nothing there", "preflight", "another host", "a website", "challenge", "call"}
    for name in answers.keys() - public:
        assert "no-store" in answers[name].headers.get("cache-control", "") or name == "opened session", name


def test_no_answer_says_what_runs_here(server: Server, http: httpx.Client) -> None:
    raw = {
        "no request": exchange(server.port, b"\x16\x03\x01\r\n\r\n"),
        "no target": exchange(server.port, b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n"),
        "long header": exchange(server.port, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n"),
    }
    assert {name: statuses(answer) for name, answer in raw.items()} == {
        "no request": [400],
        "no target": [400],
        "long header": [431],
    }
    told = {name: f"{answer.headers} {answer.text}" for name, answer in every_kind_of_answer(server, http).items()}
    told |= {name: answer.decode() for name, answer in raw.items()}
    for name in told.keys() - {"metrics", "opened session"}:
        for word in ("uvicorn", "gunicorn", "starlette", "python", "fastmcp", "x-powered-by", "traceback", 'file "'):
            assert word not in told[name].lower(), (name, word)
        assert "server:" not in told[name].lower()
        assert "'server'" not in told[name].lower()


@pytest.mark.parametrize("path", ["/token", "/register", "/revoke", "/signin", "/authorize"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_login_takes_64_kib_and_not_a_byte_more(http: httpx.Client, path: str, chunked: bool) -> None:
    """At most: a registration has a limit of its own, which is lower."""
    for size, is_refused in ((LONGEST_OAUTH, False), (LONGEST_OAUTH + 1, True)):
        body = b"x" * size
        answer = http.post(path, content=iter([body]) if chunked else body, headers=FORM)
        assert (answer.status_code == 413) is (is_refused or path == "/register"), size


@pytest.mark.parametrize("chunked", [False, True])
def test_a_call_takes_4_mib_and_not_a_byte_more(http: httpx.Client, chunked: bool) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
    headers["Content-Type"] = "application/json"
    ping = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'
    for size, is_refused in ((LONGEST_CALL, False), (LONGEST_CALL + 1, True)):
        body = ping.ljust(size)
        answer = http.post("/mcp", content=iter([body]) if chunked else body, headers=headers)
        assert (answer.status_code == 413) is is_refused, size


def test_who_has_no_token_has_no_body_read(http: httpx.Client) -> None:
    assert http.post("/mcp", content=b"x" * LONGEST_CALL).status_code == 401
