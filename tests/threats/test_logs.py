"""Nothing that opens anything is ever logged: every logger at DEBUG, every answer and every line searched."""

import gc
import io
import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

import httpx
import pytest

from harness import loud_payload
from harness.identity_provider import IdentityProvider
from harness.oauth import REDIRECT_URI, OAuthClient, Person
from harness.proxy_login import ProxyPerson, browser, oidc_proxy_environment
from harness.server import PIN, Server
from harness.waiting import HANGS_AFTER
from harness.witness import PAGES_OWN, Witness
from mcp_holdfast.auth.argon2 import hashed
from mcp_holdfast.auth.machine_tokens import hash_of, made_up_token
from mcp_holdfast.logs import TextFormatter, WithoutQuotations
from mcp_holdfast.settings import ConfigurationError, load_settings, read_environment
from mcp_holdfast.storage.opening import key_rings, open_for_server

TOKENS = {name: made_up_token() for name in ("ci", "old", "unknown")}
CONNECTOR = "the secret of a connector 1234"
METRICS_TOKEN = secrets.token_urlsafe(32)
KEYS = {"HOLDFAST_STORAGE_KEY": secrets.token_urlsafe(32), "HOLDFAST_SIGNING_KEY": secrets.token_urlsafe(32)}
KEYS |= {f"{name}_PREVIOUS": secrets.token_urlsafe(32) for name in KEYS}
LOUD = ("fastmcp.server.auth.oauth_proxy.proxy", "mcp.server.streamable_http_manager", "httpx", "uvicorn.access")


@dataclass
class Site:
    """A server that says all that it can, and who remembers what must not be among it."""

    server: Server
    witness: Witness
    provider: IdentityProvider | None = None
    seen: Path = field(default_factory=Path)

    def http(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.server.url, timeout=HANGS_AFTER, event_hooks={"response": [self.witness.watch]}
        )

    def person(self) -> ProxyPerson:
        walker = browser()
        walker.event_hooks = {"response": [self.witness.watch]}
        return ProxyPerson(quick=True, http=walker)


@pytest.fixture(scope="module", params=["built-in login", "identity provider"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("server")
    server = Server(
        directory / "data",
        directory / "server.log",
        HOLDFAST_SERVER=f"{loud_payload.__file__}:mcp",
        LOG_LEVEL="debug",
        GUNICORN_CMD_ARGS="--access-logfile -",
        SEEN=str(directory / "seen"),
        HOLDFAST_REFRESH_GRACE="0",
        HOLDFAST_METRICS_TOKEN=METRICS_TOKEN,
        HOLDFAST_TOKENS=json.dumps(
            {
                "ci": {"token_hash": hash_of(TOKENS["ci"]), "expires_at": "2999-01-01"},
                "old": {"token_hash": hash_of(TOKENS["old"]), "expires_at": "2020-01-01"},
            }
        ),
        HOLDFAST_CLIENTS=json.dumps(
            {"connector": {"client_secret_hash": hashed(CONNECTOR), "redirect_uris": [REDIRECT_URI]}}
        ),
        **KEYS,
    )
    provider = None
    if request.param == "identity provider":
        server.environment["LOG_FORMAT"] = "json"
        provider = IdentityProvider(directory / "provider").start()
        server.environment |= oidc_proxy_environment(provider, server.url)
    witness = Witness(server.url)
    for kind, known in (("static token", TOKENS.values()), ("key", KEYS.values()), ("pin", [PIN])):
        for secret in known:
            witness.note(kind, secret)
    witness.note("client_secret", CONNECTOR)
    witness.note("metrics token", METRICS_TOKEN)
    try:
        yield Site(server.start(), witness, provider, directory / "seen")
    finally:
        server.stop()
        if provider:
            provider.stop()


@pytest.fixture
def http(site: Site) -> Iterator[httpx.Client]:
    with site.http() as client:
        yield client


def begun(http: httpx.Client, client_id: str) -> tuple[OAuthClient, str]:
    """A client, and the page to which it sent somebody."""
    client = OAuthClient(http, client_id)
    return client, client.authorize(state=secrets.token_urlsafe(24)).headers["location"]


def approved(site: Site, http: httpx.Client, page: str) -> str:
    """The code that the client is sent."""
    answer = site.person().approve(page) if site.provider else Person(http).approve(page)
    return str(httpx.URL(answer.headers["location"]).params["code"])


def walk_through_all_that_can_go_wrong(site: Site, http: httpx.Client) -> None:
    registered = OAuthClient(http).register(token_endpoint_auth_method="client_secret_post").json()
    known = {"client_secret": registered["client_secret"]}
    client, page = begun(http, registered["client_id"])
    if site.provider:
        go_astray_at_the_provider(site, client)
    else:
        go_astray_at_the_page(http, page)
    client, page = begun(http, registered["client_id"])
    code = approved(site, http, page)
    for wrong in ({"code_verifier": secrets.token_urlsafe(48)}, {"client_secret": secrets.token_urlsafe(32)}):
        client.redeem(code, **(known | wrong))
    client, page = begun(http, registered["client_id"])
    code = approved(site, http, page)
    client.redeem(code, **known).raise_for_status()
    assert client.call_tool("look").status_code == 200
    first = client.tokens["refresh_token"]
    client.refresh(**known).raise_for_status()
    client.refresh(client.tokens["refresh_token"][:-2], **known)
    spoil_requests(http, client, code)
    client.refresh(first, **known)
    client.redeem(code, **known)
    client.revoke(client.tokens["access_token"], **known)
    client.call()


def go_astray_at_the_page(http: httpx.Client, page: str) -> None:
    person = Person(http)
    person.approve(page, pin="correct-horsf")
    person.open(f"{page}x")
    http.post("/signin", data={"request": page[-200:], "answer": "approve", "pin": PIN})
    person.deny(page)


def go_astray_at_the_provider(site: Site, client: OAuthClient) -> None:
    assert site.provider
    for fault in (lambda: site.provider.fail_token_endpoint(400), lambda: site.provider.fail_token_endpoint(503), None):
        page = client.authorize(state=secrets.token_urlsafe(24)).headers["location"]
        person = site.person()
        callback = person.sign_in(person.allow(person.open(page)).headers["location"])
        if fault:
            fault()
            person.bring_back(callback)
            site.provider.heal()
        else:
            # In another browser, with another code, and with another state.
            site.person().bring_back(callback)
            url = httpx.URL(callback)
            for name in ("code", "state"):
                person.bring_back(str(url.copy_set_param(name, secrets.token_urlsafe(32))))
            person.bring_back(callback)
            person.bring_back(callback)
    person = site.person()
    page = client.authorize(state=secrets.token_urlsafe(24)).headers["location"]
    opened = person.open(page)
    site.person().allow(opened)
    person.http.post(opened.url, data={"txn_id": httpx.URL(page).params["txn_id"], "csrf_token": "x" * 43})
    person.open(f"{page}x")


def spoil_requests(http: httpx.Client, client: OAuthClient, code: str) -> None:
    """Put secrets where they do not belong, in bodies that are broken."""
    token, form = client.tokens["access_token"], {"Content-Type": "application/x-www-form-urlencoded"}
    http.get("/mcp", params={"access_token": token})
    http.post("/token", params={"code": code, "client_secret": CONNECTOR}, data={"grant_type": "password", "pin": PIN})
    http.post("/token", files={"code": code.encode()})
    http.post("/token", content=b"code=" + code.encode() + b"&x=" + b"y" * 70_000, headers=form)
    http.post("/token", content=b"\xff\xfe" + code.encode(), headers=form)
    http.post("/register", content=b'{"client_secret": "' + CONNECTOR.encode(), headers={"Content-Type": "text/plain"})
    http.post("/register", json={"client_secret": CONNECTOR, "redirect_uris": [f"https://u:{CONNECTOR}@example.com/"]})
    http.get("/authorize", params={"client_id": "x", "state": secrets.token_urlsafe(24)})
    http.post("/mcp", content=b'{"token": "' + token.encode(), headers={"Authorization": f"Bearer {token}"})
    for presented in (token[:-3], f"{token}x", TOKENS["old"], TOKENS["unknown"], TOKENS["ci"]):
        client.call(presented)
    client.refresh(TOKENS["ci"])
    http.post("/token", data={"grant_type": "authorization_code", "code": code}, auth=("connector", CONNECTOR))
    http.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}x"})


def issued_by(provider: IdentityProvider | None) -> set[str]:
    """Codes, tokens and sessions; the client and the keys have names that are no secrets, and shorter."""
    return {issued for issued in provider.issued() if len(issued) > 20} if provider else set()


def test_nothing_that_opens_anything_is_told(site: Site, http: httpx.Client) -> None:
    walk_through_all_that_can_go_wrong(site, http)
    metrics = http.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}).raise_for_status().text
    for upstream in [*site.seen.read_text().split(), *issued_by(site.provider)]:
        site.witness.note("upstream", upstream)
    if site.provider:
        site.witness.note("client_secret", site.provider.client_secret)
    kinds = {"access_token", "refresh_token", "code", "code_verifier", "client_secret", "state", "pin"}
    kinds |= {"cookie", "csrf_token", "txn_id", "upstream"} if site.provider else {"request"}
    assert kinds - site.witness.secrets.keys() == set()

    logged = site.server.output()
    assert [name for name in LOUD if name not in logged and site.provider] == []
    assert '"GET /' in logged or '\\"GET /' in logged
    found = [(site.witness.told_in(line), line[:400]) for line in logged.splitlines()]
    assert [line for line in found if line[0]] == []
    assert site.witness.told_in(metrics) == set()
    assert len(site.witness.errors) > 15
    for error in site.witness.errors:
        assert site.witness.told_in(error, but=PAGES_OWN) == set(), error


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    "url",
    [
        "redis://user:{password}@127.0.0.1:1/0",
        "postgresql://user:{password}@127.0.0.1:1/holdfast",
        "mongodb://user:{password}@127.0.0.1:1/holdfast",
        "dynamodb://AKIDEXAMPLE:{password}@table?region=eu-central-1&endpoint_url=http%3A%2F%2F127.0.0.1%3A1",
    ],
    ids=lambda url: str(url).partition(":")[0],
)
def test_an_engine_that_does_not_answer_tells_no_password(url: str) -> None:
    password = "s3cret/with@every:kind of+character"
    environ = {"HOLDFAST_STORAGE_URL": url.format(password=quote(password, safe="")), **KEYS}
    settings, problems = load_settings(read_environment(environ)[0])
    assert problems == []
    logged = io.StringIO()
    with everything_logged_to(logged), pytest.raises(ConfigurationError) as told:
        open_for_server(settings, key_rings(settings).storage)
    # Drivers leave sockets that nobody accepted to the garbage collector, which would complain in another test.
    gc.collect()
    witness = Witness("")
    for secret in (password, *KEYS.values()):
        witness.note("secret", secret)
    assert "127.0.0.1" in str(told.value)
    assert witness.told_in(f"{logged.getvalue()}\n{told.value}") == set()


@contextmanager
def everything_logged_to(stream: TextIO) -> Iterator[None]:
    """Have every logger tell all it can, in the way in which the server writes it."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter())
    handler.addFilter(WithoutQuotations())
    before = logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)
        logging.root.setLevel(before)
