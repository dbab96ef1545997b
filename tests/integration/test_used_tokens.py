"""A refresh token that was used long ago: the server keeps no record of it, and knows it nevertheless."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.server import Server
from harness.waiting import HANGS_AFTER, eventually
from mcp_holdfast.auth.local.tokens import REFRESH_TOKEN, TokenSigner
from mcp_holdfast.auth.sessions import SESSIONS, TOKENS, token_key
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.keys import KeyRing

SECRET = "a-storage-key-of-more-than-32-characters"
SIGNING_SECRET = "a-signing-key-of-more-than-32-characters"
KEYS = {"HOLDFAST_STORAGE_KEY": SECRET, "HOLDFAST_SIGNING_KEY": SIGNING_SECRET}

GRACE = 60
A_MONTH = 30 * 86400

Record = dict[str, Any]


class Login:
    """A server with one of the logins, and its store as one sees it who has the key."""

    def __init__(self, server: Server, store: AtomicStore, person: Callable[[], ProxyPerson | None]) -> None:
        self.http = httpx.Client(base_url=server.url, timeout=HANGS_AFTER)
        self._store = store
        self._person = person

    def signed_in(self) -> OAuthClient:
        return OAuthClient(self.http, person=self._person()).sign_in()

    def record(self, token: str) -> Record:
        record: Record = self._do(self._store.get(key_of(token), collection=TOKENS))
        return record

    def record_of_what_was_answered(self, token: str) -> Record:
        """What is left when the server has noted that it sent the answer."""
        return eventually(lambda: self.record(token), lambda record: record["delivered_at"] is not None)

    def lifetime(self, token: str) -> float:
        """For how many seconds there will be a record of a token."""
        _, lifetime = self._do(self._store.ttl(key_of(token), collection=TOKENS))
        return float(lifetime or 0)

    def lose(self, token: str) -> None:
        """Remove a token's record, as the passing of time does, or damage."""
        assert self._do(self._store.delete(key_of(token), collection=TOKENS))

    def session_of(self, token: str) -> str:
        return str(self.record(token)["session"])

    def change_session(self, name: str, change: Callable[[Record], None]) -> None:
        session = self._do(self._store.get(name, collection=SESSIONS))
        change(session)
        self._do(self._store.put(name, session, collection=SESSIONS, ttl=A_MONTH))

    def keep(self, token: str, record: Record) -> None:
        self._do(self._store.put(key_of(token), record, collection=TOKENS, ttl=A_MONTH))

    def _do(self, operation: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(operation)


def key_of(token: str) -> str:
    return token_key("refresh_token", token)


def login_with(directory: Path, provider: IdentityProvider | None) -> Iterator[Login]:
    server = Server(directory / "data", directory / "server.log", **KEYS)
    if provider is not None:
        server.environment |= proxy_environment(provider, server.url)
    server.start()
    store = open_store("filetree", path=directory / "data/oauth-proxy", keys=KeyRing((SECRET,), "test"))
    login = Login(server, store, lambda: ProxyPerson(quick=True) if provider else None)
    yield login
    login.http.close()
    server.stop()


@pytest.fixture(scope="module")
def built_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    yield from login_with(tmp_path_factory.mktemp("built-in"), None)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    directory = tmp_path_factory.mktemp("proxy")
    provider = IdentityProvider(directory / "identity-provider").start()
    yield from login_with(directory, provider)
    provider.stop()


@pytest.fixture(params=["built_in", "proxy"])
def login(request: pytest.FixtureRequest) -> Login:
    chosen: Login = request.getfixturevalue(request.param)
    return chosen


def used_long_ago(login: Login, client: OAuthClient) -> str:
    """A token of a client that has refreshed since, of which there is no record any more."""
    old: str = client.tokens["refresh_token"]
    client.refresh().raise_for_status()
    login.record_of_what_was_answered(old)
    login.lose(old)
    return old


def test_the_record_of_a_used_token_ends_soon_after_the_grace_time(login: Login) -> None:
    client = login.signed_in()
    old = client.tokens["refresh_token"]
    client.refresh().raise_for_status()
    assert GRACE < eventually(lambda: login.lifetime(old), lambda lifetime: lifetime < A_MONTH / 2) <= 2 * GRACE


def test_its_reuse_ends_the_session(login: Login) -> None:
    client = login.signed_in()
    old = used_long_ago(login, client)
    client.refresh().raise_for_status()
    assert client.call().status_code == 200
    assert client.refresh(old).json()["error"] == "invalid_grant"
    assert client.call().status_code == 401
    assert client.refresh().json()["error"] == "invalid_grant"


def test_it_is_refused_when_its_session_has_ended(login: Login) -> None:
    client = login.signed_in()
    old = used_long_ago(login, client)
    assert client.revoke(client.tokens["refresh_token"]).status_code == 200
    assert client.refresh(old).json()["error"] == "invalid_grant"


def test_it_is_nothing_to_another_client(login: Login) -> None:
    client, thief = login.signed_in(), OAuthClient(login.http)
    thief.register(client_name="A thief")
    old = used_long_ago(login, client)
    assert thief.refresh(old).json()["error"] == "invalid_grant"
    assert thief.revoke(old).status_code == 200
    assert client.call().status_code == 200


def test_revoking_it_ends_the_session(login: Login) -> None:
    client = login.signed_in()
    old = used_long_ago(login, client)
    assert client.revoke(old).status_code == 200
    assert client.call().status_code == 401


def test_a_token_that_was_not_used_goes_on_in_its_session_without_its_record(login: Login) -> None:
    client = login.signed_in()
    session = login.session_of(client.tokens["refresh_token"])
    login.lose(client.tokens["refresh_token"])
    client.refresh().raise_for_status()
    assert login.session_of(client.tokens["refresh_token"]) == session


def test_an_answer_that_may_have_got_lost_is_not_given_again_when_its_token_was_used_long_ago(login: Login) -> None:
    client = login.signed_in()
    first = client.tokens["refresh_token"]
    client.refresh().raise_for_status()
    second = client.tokens["refresh_token"]
    answered = login.record_of_what_was_answered(first)
    client.refresh().raise_for_status()
    login.record_of_what_was_answered(second)
    login.lose(second)
    issued = {"key": key_of(second), "kind": "refresh_token", "expires_at": answered["spent_at"] + A_MONTH}
    login.keep(
        first, {**answered, "delivered_at": None, "issued": [issued], "spent_at": answered["spent_at"] - A_MONTH}
    )
    assert client.refresh(first).json()["error"] == "invalid_grant"
    assert client.call().status_code == 401


def test_a_token_that_a_store_does_not_know_which_was_put_back_is_no_reuse(login: Login) -> None:
    client = login.signed_in()
    token = client.tokens["refresh_token"]
    session = login.session_of(token)

    def put_back(record: Record) -> None:
        record["created_at"] -= 3600
        record["records"] = [place for place in record["records"] if place[1] != key_of(token)]

    login.change_session(session, put_back)
    login.lose(token)
    client.refresh(token)
    assert client.call().status_code == 200


def test_a_token_of_an_earlier_release_is_remembered_by_its_record(built_in: Login) -> None:
    """Such a token does not tell its session."""
    client = built_in.signed_in()
    token = client.tokens["refresh_token"]
    signer = TokenSigner(KeyRing((SIGNING_SECRET,), "test"))
    claims = {name: value for name, value in signer.read(REFRESH_TOKEN, token).items() if name != "sid"}
    earlier = signer.sign(REFRESH_TOKEN, claims)
    built_in.keep(earlier, built_in.record(token))
    client.refresh(earlier).raise_for_status()
    answered = built_in.record_of_what_was_answered(earlier)
    assert built_in.lifetime(earlier) > A_MONTH / 2
    assert signer.read(REFRESH_TOKEN, client.tokens["refresh_token"])["sid"] == answered["session"]
    built_in.keep(earlier, {**answered, "spent_at": answered["spent_at"] - 3600})
    assert client.refresh(earlier).json()["error"] == "invalid_grant"
    assert client.call().status_code == 401
