"""Whatever strangers send and whatever lies on the volume: no 500, no hang, no growth, and no secret in the log.

FUZZ_EXAMPLES says how many examples of each kind are tried; without it a few, the same ones each time.
"""

import asyncio
import base64
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote_from_bytes, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.identity_provider import IdentityProvider
from harness.oauth import REDIRECT_URI, OAuthClient, Person, hidden_fields
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.selection import in_every_run
from harness.server import PIN, Server
from harness.waiting import eventually
from mcp_holdfast.auth.sessions import SESSIONS
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import LEASES, AtomicStore
from mcp_holdfast.storage.keys import volume_key_ring

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "30"))
ANSWERED_WITHIN = 20.0
MARK = "SubmittedSecret"
ENDPOINTS = ("/token", "/revoke", "/register", "/authorize", "/consent", "/auth/callback", "/signin", "/mcp")
SECRETS = ("code", "refresh_token", "token", "client_secret", "code_verifier", "client_assertion", "pin", "request")
NAMES = (
    *SECRETS,
    *("grant_type", "redirect_uri", "client_id", "code_challenge", "code_challenge_method", "response_type", "state"),
    *("scope", "resource", "token_type_hint", "client_assertion_type", "txn_id", "csrf_token", "action", "answer"),
    *("error", "error_description"),
)
METHODS = (b"POST", b"POST", b"POST", b"GET", b"GET", b"HEAD", b"OPTIONS", b"PUT", b"NONSENSE")
CONTENT_TYPES = (
    *(b"application/x-www-form-urlencoded", b"application/x-www-form-urlencoded; charset=utf-16", b"application/json"),
    *(b"multipart/form-data; boundary=b", b"multipart/form-data", b"multipart/form-data; boundary=\xff", b"text/plain"),
    *(b"", b"/", b"\xff\xfe", b"application/x-www-form-urlencoded; charset=nonsense"),
)
COLLECTIONS = {
    "local login": ("holdfast_clients", "holdfast_grants", "holdfast_login"),
    "identity provider": (
        *("mcp-authorization-codes", "mcp-jti-mappings", "mcp-oauth-proxy-clients", "mcp-oauth-transactions"),
        *("mcp-refresh-tokens", "mcp-upstream-tokens"),
    ),
}
SHARED_COLLECTIONS = (
    *("holdfast", LEASES, SESSIONS, "holdfast_tokens"),
    *("holdfast_registrations", "holdfast_registration_slots", "holdfast_registration_answers"),
)

Fields = list[tuple[str, str]]
Prepare = Callable[[str, float], None]
"""Has records in a collection; leases end after so many seconds."""

ENDS_SOON, IS_THERE_YET = 0.5, 60.0
"""In seconds: for how long requests wait for somebody else's lease, and what looking at it never takes."""

pytestmark = pytest.mark.timeout(3600 + 2 * EXAMPLES)
examples = settings(
    max_examples=EXAMPLES,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Party:
    """A server, its volume, and a client that signed in and holds the pages and codes of further sign-ins."""

    login: str
    server: Server
    volume: Path
    person: Callable[[httpx.Client], Person | ProxyPerson]
    http: httpx.Client
    client: OAuthClient = field(init=False)
    page: str = ""
    code: str = ""

    def sign_in(self) -> None:
        self.client = OAuthClient(self.http, person=self.person(self.http)).sign_in()
        self.page = self.client.authorize().headers["location"]
        self.code = self.client.code()

    @property
    def directory(self) -> Path:
        return self.volume / "oauth-proxy"

    def files(self) -> list[Path]:
        return [path for path in self.volume.rglob("*") if path.is_file()]

    def records_of(self, collection: str) -> list[Path]:
        """The files of a collection, whose directory may be called otherwise."""
        for file in self.directory.glob("*-info.json"):
            if json.loads(file.read_text())["collection"] == collection:
                return sorted((self.directory / file.name.removesuffix("-info.json")).glob("*.json"))
        return []

    def store(self) -> AtomicStore:
        """The store of the server, opened with its keys."""
        keys = volume_key_ring(self.volume / "keys/storage.key", "HOLDFAST_STORAGE_KEY", store_is_in_use=True)
        return open_store("filetree", path=self.directory, keys=keys)

    def forms(self) -> list[Fields]:
        """What a client and a browser would send; the code and the refresh token are good."""
        redeem = {"grant_type": "authorization_code", "code": self.code, "redirect_uri": REDIRECT_URI}
        refresh = {"grant_type": "refresh_token", "refresh_token": self.client.tokens["refresh_token"]}
        authorize = dict(parse_qsl(urlsplit(str(self.client.authorize().request.url)).query))
        opened = hidden_fields(Person(self.http).open(self.page).text)
        client = {"client_id": self.client.client_id}
        forms: list[dict[str, str]] = [
            {**redeem, **client, "code_verifier": self.client.verifier},
            {**refresh, **client},
            {"token": f"{MARK} that never was one", **client},
            authorize,
            {**opened, "answer": "deny", "action": "deny"},
            dict(parse_qsl(urlsplit(self.page).query)),
            {"code": f"{MARK} of nobody", "state": opened.get("txn_id", "")},
        ]
        return [list(form.items()) for form in forms]

    def secrets(self) -> list[str]:
        return [MARK, PIN, self.code, *(self.client.tokens[name] for name in ("access_token", "refresh_token"))]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


@pytest.fixture(scope="module", params=["local login", "identity provider", "memory"])
def party(
    request: pytest.FixtureRequest, provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Party]:
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory / "data", directory / "server.log", HOLDFAST_TOKEN_CACHE="0")
    person: Callable[[httpx.Client], Person | ProxyPerson] = Person
    if request.param == "identity provider":
        server.environment |= proxy_environment(provider, server.url)
        person = _quick_person
    if request.param == "memory":
        server.environment["EXA_MCP_STORAGE_BACKEND"] = "memory"
    server.start()
    # A 500 ends its connection, and must not be mistaken for the failure of the request after it.
    alone = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=server.url, timeout=ANSWERED_WITHIN, limits=alone) as http:
        party = Party(request.param, server, directory / "data", person, http)
        party.sign_in()
        yield party
    server.stop()


def _quick_person(_: httpx.Client) -> ProxyPerson:
    return ProxyPerson(quick=True)


# What is sent


@dataclass(frozen=True)
class Wire:
    """A request as it goes over the wire."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def __bytes__(self) -> bytes:
        headers = [(b"Host", b"localhost"), (b"Connection", b"close"), *self.headers]
        if self.body:
            headers.append((b"Content-Length", str(len(self.body)).encode()))
        lines = [b"%s: %s\r\n" % header for header in headers]
        return b"%s %s HTTP/1.1\r\n%s\r\n%s" % (self.method, self.target, b"".join(lines), self.body)


@dataclass(frozen=True)
class Answer:
    """What came back, as far as it matters."""

    status: int
    text: str

    @property
    def is_refusal(self) -> bool:
        return self.status >= 400 or bool(re.search(r"^location:.*[?&]error=", self.text, re.MULTILINE | re.IGNORECASE))


def ask(server: Server, request: Wire) -> Answer:
    """Send a request, however broken, and wait for its answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=ANSWERED_WITHIN) as connection:
        received = b""
        try:
            connection.sendall(bytes(request))
            while part := connection.recv(65536):
                received += part
        except ConnectionError:
            assert received, "the connection broke without an answer"
    assert received, "the connection ended without an answer"
    return Answer(int(received.split(b" ", 2)[1]), received.decode(errors="replace"))


any_text = st.text(alphabet=st.characters(exclude_categories=()), max_size=40)
any_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=8,
)
marked = st.builds(lambda text: f"{MARK}{text}", any_text)
huge = st.sampled_from(["x" * 9000, "\x00" * 3000, "a b" * 20_000, "%" * 5000])
any_field = st.tuples(st.sampled_from(SECRETS), marked) | st.tuples(
    st.sampled_from(NAMES) | any_text,
    any_text | huge | st.sampled_from(["authorization_code", "refresh_token", "code"]),
)


@st.composite
def edited(draw: st.DrawFn, form: Fields) -> Fields:
    """A form with some of its fields left out, repeated or changed, and others between them."""
    result: Fields = []
    for name, value in form:
        edit = draw(st.sampled_from(["keep", "keep", "keep", "keep", "leave out", "repeat", "change"]))
        result += [(name, value)] * {"keep": 1, "repeat": 2}.get(edit, 0)
        if edit == "change":
            result.append((name, draw(marked if name in SECRETS else any_text | huge)))
    return result + draw(st.lists(any_field, max_size=3))


def urlencoded(form: Fields) -> bytes:
    def quoted(text: str) -> bytes:
        return quote_from_bytes(text.encode(errors="surrogatepass")).encode()

    return b"&".join(quoted(name) + b"=" + quoted(value) for name, value in form)


def multipart(form: Fields) -> bytes:
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        % (name.encode(errors="surrogatepass"), value.encode(errors="surrogatepass"))
        for name, value in form
    ]
    return b"".join(parts) + b"--b--\r\n"


def as_json(form: Fields) -> bytes:
    return json.dumps(dict(form)).encode()


@st.composite
def encoded(draw: st.DrawFn, form: Fields) -> bytes:
    """A form as bytes, which may be broken somewhere."""
    body = draw(st.sampled_from([urlencoded, urlencoded, multipart, as_json]))(form)
    if draw(st.booleans()):
        place = draw(st.integers(0, len(body)))
        junk = draw(st.binary(max_size=20) | st.sampled_from([b"%", b"%zz", b"&&==", b"\x00", b"%00", b"\xff", b";"]))
        body = body[:place] + junk + body[place + draw(st.integers(0, 30)) :]
    return body


@st.composite
def registrations(draw: st.DrawFn) -> bytes:
    """The metadata of a client, with something else in some places."""
    metadata: dict[str, Any] = {
        "client_name": "A client",
        "redirect_uris": [REDIRECT_URI],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
    }
    others = ("scope", "contacts", "jwks", "jwks_uri", "logo_uri", "software_id", "client_id", "client_uri")
    changed = draw(st.dictionaries(st.sampled_from([*metadata, *others]), any_json | st.lists(any_text), max_size=3))
    return json.dumps(metadata | changed).encode()


@st.composite
def authorizations(draw: st.DrawFn, tokens: list[str]) -> bytes:
    scheme = draw(st.sampled_from([b"Basic ", b"Bearer ", b"bearer  ", b"Digest ", b"Basic", b""]))
    rest = draw(st.sampled_from(tokens) | marked).encode(errors="surrogatepass")
    return scheme + (base64.b64encode(rest) if draw(st.booleans()) else rest)


@st.composite
def headers(draw: st.DrawFn, tokens: list[str]) -> tuple[tuple[bytes, bytes], ...]:
    one = st.one_of(
        st.tuples(st.just(b"Content-Type"), st.sampled_from(CONTENT_TYPES)),
        st.tuples(st.just(b"Authorization"), authorizations(tokens)),
        st.tuples(st.sampled_from([b"Accept", b"Origin", b"Cookie", b"Mcp-Session-Id"]), st.binary(max_size=40)),
        st.tuples(st.just(b"Accept"), st.just(b"application/json, text/event-stream")),
    )
    return tuple(draw(st.lists(one, max_size=4)))


@st.composite
def requests(draw: st.DrawFn, forms: list[Fields], tokens: list[str]) -> Wire:
    """A request that is nearly right, or wrong from the beginning to the end."""
    path = draw(st.sampled_from(ENDPOINTS)).encode()
    path += draw(st.just(b"") | st.sampled_from([b"/", b"%0A", b"//", b"%00", b"/..", b"%FF", b"?", b";x", b"\xff"]))
    content = draw(encoded(draw(st.sampled_from(forms).flatmap(edited))) | st.binary(max_size=300))
    if path == b"/register":
        content = draw(registrations() | st.just(content))
    method = draw(
        st.sampled_from([b"POST", b"POST", b"POST", b"GET", b"GET", b"HEAD", b"OPTIONS", b"PUT", b"NONSENSE"])
    )
    more = draw(headers(tokens))
    if method != b"POST":
        return Wire(method, path + b"?" + re.sub(rb"[\s\x00-\x20]", b"", content)[:30_000], more)
    if not any(name == b"Content-Type" for name, _ in more):
        more += ((b"Content-Type", b"multipart/form-data; boundary=b" if content[:3] == b"--b" else CONTENT_TYPES[0]),)
    return Wire(method, path, more, content)


@examples
@given(data=st.data())
def test_no_request_breaks_the_server(party: Party, data: st.DataObject) -> None:
    before = len(party.files())
    tokens = [*party.secrets(), party.client.client_id]
    request = data.draw(requests(party.forms(), tokens))
    before = max(before, len(party.files()))
    answer = ask(party.server, request)
    assert answer.status < 500, answer.text
    if answer.is_refusal:
        eventually(lambda: len(party.files()), lambda count: count <= before)


NO_MULTIPART = Wire(b"POST", b"", ((b"Content-Type", b"multipart/form-data; boundary=b"),), b"nonsense")


@pytest.mark.parametrize("path", ["/token", "/revoke", "/register", "/authorize", "/consent", "/signin"])
def test_a_broken_multipart_body_is_refused(party: Party, path: str) -> None:
    answer = ask(party.server, replace(NO_MULTIPART, target=path.encode()))
    assert 400 <= answer.status < 500, answer.text


@pytest.mark.parametrize("party", ["identity provider"], indirect=True)
def test_a_wrong_code_of_the_identity_provider_is_refused(party: Party) -> None:
    person = ProxyPerson(quick=True)
    allowed = person.allow(person.open(party.client.authorize().headers["location"]))
    callback = httpx.URL(person.sign_in(allowed.headers["location"])).copy_set_param("code", f"{MARK} wrong")
    answer = person.bring_back(str(callback))
    assert 300 <= answer.status_code < 500, answer.text


@pytest.mark.parametrize("parameter", ["state", "error", "error_description"])
def test_nobody_writes_lines_of_the_log(party: Party, parameter: str) -> None:
    """Whoever reads the log must be able to tell what the server said (CWE-117)."""
    party.http.get("/auth/callback", params={"error": "an error", "code": "a code", parameter: "x\nMADE UP"})
    assert [line for line in party.server.output().splitlines() if line.startswith("MADE UP")] == []


def test_nothing_that_was_submitted_is_in_the_log(party: Party) -> None:
    output = party.server.output()
    assert [secret for secret in party.secrets() if secret in output] == []


# What lies on the volume


@st.composite
def contents(draw: st.DrawFn, original: bytes) -> bytes:
    """What a file may hold instead of a record."""
    record = json.loads(original)
    name = draw(st.sampled_from(sorted(record)))
    content: bytes = draw(
        st.one_of(
            st.binary(max_size=200),
            st.integers(0, len(original)).map(lambda end: original[:end]),
            any_json.map(lambda value: json.dumps(value).encode()),
            any_json.map(lambda value: json.dumps({**record, name: value}).encode()),
            any_json.map(lambda value: json.dumps({**record, "value": {"sealed": value}}).encode()),
            st.sampled_from([b"[" * 100_000, b'{"value":' * 50_000, b"9" * 5000, b" " * 4_000_000, b"\xff" * 100_000]),
        )
    )
    return content


@st.composite
def values(draw: st.DrawFn, original: dict[str, Any]) -> dict[str, Any]:
    """What may be in a record instead of what the server put there, of a kind that JSON has."""
    if not original or draw(st.integers(0, 4)) == 0:
        return dict(draw(st.dictionaries(any_text, any_json, max_size=3)))
    changed = draw(st.dictionaries(st.sampled_from(sorted(original)), any_json, min_size=1, max_size=2))
    left_out = draw(st.sets(st.sampled_from(sorted(original)), max_size=1))
    return {name: value for name, value in (original | changed).items() if name not in left_out}


def everything_that_is_asked(party: Party) -> list[httpx.Response]:
    """Every request that reads records, each of which may find its own missing."""
    http, client = party.http, party.client
    refresh_token, access_token = client.tokens["refresh_token"], client.tokens["access_token"]
    pending = hidden_fields(http.get(party.page).text)
    newcomer = OAuthClient(http)
    asked: list[Callable[[], httpx.Response]] = [
        lambda: client.call(access_token),
        lambda: client.refresh(refresh_token),
        lambda: client.refresh(refresh_token),
        client.authorize,
        lambda: http.get(party.page),
        lambda: http.post(party.page, data={**pending, "answer": "approve", "action": "approve", "pin": PIN}),
        lambda: http.post("/signin", data={**pending, "answer": "approve", "pin": PIN}),
        lambda: http.get("/auth/callback", params={"code": "a code", "state": pending.get("txn_id", "")}),
        lambda: client.redeem(party.code),
        lambda: client.redeem(party.code),
        newcomer.register,
        lambda: newcomer.register(client_name="A test client"),
        newcomer.authorize,
        lambda: client.revoke(access_token),
        lambda: client.revoke(refresh_token),
        lambda: client.call(access_token),
        lambda: http.get("/readyz"),
    ]
    return [request() for request in asked]


def copy_at_once(source: str, target: str) -> None:
    """Copy a file so that the server, whose sweeper looks at all of them, never sees a part of it."""
    beside = Path(f"{target}.copied")
    shutil.copy(source, beside)
    beside.rename(target)


@pytest.fixture
def prepare(party: Party, tmp_path: Path) -> Prepare:
    """Put the volume back to what it was and sign in anew; let others hold leases, where these are to be changed."""
    shutil.copytree(party.directory, tmp_path / "kept")

    async def hold_leases(lifetime: float) -> None:
        store = party.store()
        async for identifier, _ in store.entries(SESSIONS):
            await store.put(f"session {identifier}", {"holder": "somebody"}, collection=LEASES, ttl=lifetime)

    def prepare(collection: str, lease_lifetime: float) -> None:
        for file in party.directory.rglob("*"):
            if file.is_file() and not file.name.endswith("-info.json"):
                file.unlink()
        shutil.copytree(tmp_path / "kept", party.directory, dirs_exist_ok=True, copy_function=copy_at_once)
        party.sign_in()
        if collection == LEASES:
            asyncio.run(hold_leases(lease_lifetime))

    return prepare


@pytest.mark.parametrize("party", in_every_run(["identity provider"], COLLECTIONS), indirect=True)
@examples
@given(data=st.data())
def test_no_file_breaks_the_server(party: Party, prepare: Prepare, data: st.DataObject) -> None:
    collection = data.draw(st.sampled_from([*SHARED_COLLECTIONS, *COLLECTIONS[party.login]]))
    prepare(collection, ENDS_SOON)
    files = party.records_of(collection)
    content = data.draw(contents(files[0].read_bytes())) if files else b""
    for file in files:
        file.write_bytes(content)
    check_every_answer(party)


@pytest.mark.parametrize("party", in_every_run(["local login"], COLLECTIONS), indirect=True)
@examples
@given(data=st.data())
def test_no_sealed_record_breaks_the_server(party: Party, prepare: Prepare, data: st.DataObject) -> None:
    collection = data.draw(st.sampled_from([*SHARED_COLLECTIONS, *COLLECTIONS[party.login]]))
    prepare(collection, IS_THERE_YET)
    asyncio.run(replace_each(party.store(), collection, lambda value: data.draw(values(value))))
    check_every_answer(party)


async def replace_each(store: AtomicStore, collection: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Give all records of a collection the same other value, and the expiry that they had, if nobody waits for it."""
    records = [record async for record in store.entries(collection)]
    value = change(dict(records[0][1].value)) if records else {}
    for key, entry in records:
        await store.put(key, value, collection=collection, ttl=ENDS_SOON if collection == LEASES else entry.ttl)


def check_every_answer(party: Party) -> None:
    answers = [
        (response.request.method, response.request.url.path, response.status_code)
        for response in everything_that_is_asked(party)
    ]
    assert [answer for answer in answers if answer[2] >= 500] == []
