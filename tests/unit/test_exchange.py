"""The exactly-once token endpoint round a provider that it knows nothing of: FastMCP's own in-memory one."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from mcp.server.auth.provider import AuthorizationCode, AuthorizationParams, RefreshToken
from mcp.server.auth.settings import ClientRegistrationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyUrl
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import Message

from harness.oauth import REDIRECT_URI, OAuthClient
from harness.scraping import Scrape
from mcp_holdfast.auth.configured import ConfiguredClients
from mcp_holdfast.auth.exchange import Exchange, TokenEndpoint
from mcp_holdfast.auth.exchange.delivery import Delivery
from mcp_holdfast.auth.sessions import SESSIONS, TOKENS, Sessions
from mcp_holdfast.auth.shield import Shield
from mcp_holdfast.http.outage import OutageAnswer
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import LEASES, AtomicStore, Leases
from mcp_holdfast.storage.journal import JournaledStore

URL = "http://localhost:8000"
ISSUED = "issued"


class KeepsEverybody:
    """Registrations, as far as the exchange needs them."""

    async def keep(self, client_id: str) -> None:
        """Nothing expires here."""


class StoringProvider(InMemoryOAuthProvider):
    """Writes down in the store what it issues, as providers do whose state is to last."""

    def __init__(self, store: AtomicStore) -> None:
        super().__init__(base_url=URL, client_registration_options=ClientRegistrationOptions(enabled=True))
        self.below = store
        self.store = JournaledStore(store)
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.exchanges = 0
        self.begun = asyncio.Semaphore(0)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        await self._begin()
        code = authorization_code.code
        tokens = await super().exchange_authorization_code(client, authorization_code)
        # What this provider deletes at once, one whose state is in the store deletes when all is done.
        self.auth_codes[code] = authorization_code
        await self.store.put(tokens.access_token, {"of": "a code"}, collection=ISSUED, ttl=3600)
        return tokens

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        await self._begin()
        return await super().exchange_refresh_token(client, refresh_token, scopes)

    async def _begin(self) -> None:
        self.exchanges += 1
        self.begun.release()
        # As who has to ask somebody else: others get their turn meanwhile.
        await asyncio.sleep(0.01)
        await self.go_on.wait()


class NonRotatingProvider(StoringProvider):
    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        tokens = await super().exchange_refresh_token(client, refresh_token, scopes)
        self.refresh_tokens[refresh_token.token] = refresh_token
        return tokens.model_copy(update={"refresh_token": refresh_token.token})


def compose(provider: StoringProvider, store: AtomicStore, *, grace: float = 60) -> Starlette:
    leases = Leases(store, lifetime=30)
    exchange = Exchange(
        provider=provider,
        store=store,
        leases=leases,
        sessions=Sessions(store, leases),
        registrations=KeepsEverybody(),
        grace=grace,
    )
    layers = [
        Middleware(OutageAnswer, server_name="test"),
        Middleware(TokenEndpoint, exchange=exchange, clients=ConfiguredClients({}), shield=Shield()),
    ]
    return Starlette(routes=provider.get_routes("/mcp"), middleware=layers)


def replica(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=URL)


@pytest.fixture
def store() -> AtomicStore:
    return open_store("memory")


@pytest.fixture
def provider(store: AtomicStore) -> StoringProvider:
    return StoringProvider(store)


@pytest.fixture
def app(provider: StoringProvider, store: AtomicStore) -> Starlette:
    return compose(provider, store)


@pytest.fixture
async def http(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with replica(app) as http:
        yield http


async def code_of(provider: StoringProvider, **metadata: Any) -> dict[str, str]:
    """A request that redeems a new code of a new client."""
    client = OAuthClientInformationFull(
        client_id=f"client-{time.monotonic_ns()}",
        redirect_uris=[AnyUrl(REDIRECT_URI)],
        **{"token_endpoint_auth_method": "none", **metadata},
    )
    await provider.register_client(client)
    party = OAuthClient(httpx.Client(), client_id=str(client.client_id))
    params = AuthorizationParams(
        state=None,
        scopes=["read", "write"],
        code_challenge=party.challenge,
        redirect_uri=AnyUrl(REDIRECT_URI),
        redirect_uri_provided_explicitly=True,
    )
    location = await provider.authorize(client, params)
    return {
        "grant_type": "authorization_code",
        "code": httpx.URL(location).params["code"],
        "client_id": party.client_id,
        "redirect_uri": REDIRECT_URI,
        "code_verifier": party.verifier,
    }


async def refresh_of(http: httpx.AsyncClient, form: dict[str, str]) -> dict[str, str]:
    """A request that refreshes the session that redeeming a code began."""
    tokens = (await http.post("/token", data=form)).json()
    return {
        "grant_type": "refresh_token",
        "refresh_token": tokens["refresh_token"],
        "client_id": form["client_id"],
    }


async def records(store: AtomicStore, collection: str) -> list[dict[str, Any]]:
    return [entry.value_as_dict async for _, entry in store.entries(collection)]


async def test_eight_requests_with_one_code_are_one_redemption(
    http: httpx.AsyncClient, provider: StoringProvider
) -> None:
    form = await code_of(provider)
    answers = await asyncio.gather(*(http.post("/token", data=form) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
    assert provider.exchanges == 1


async def test_eight_refreshes_with_one_token_are_one(http: httpx.AsyncClient, provider: StoringProvider) -> None:
    form = await refresh_of(http, await code_of(provider))
    answers = await asyncio.gather(*(http.post("/token", data=form) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert provider.exchanges == 2


async def test_a_recorded_answer_cannot_be_read_from_the_store(
    http: httpx.AsyncClient, provider: StoringProvider, store: AtomicStore
) -> None:
    form = await refresh_of(http, await code_of(provider))
    tokens = (await http.post("/token", data=form)).json()
    stored = str(await records(store, TOKENS))
    assert tokens["access_token"] not in stored
    assert tokens["refresh_token"] not in stored
    assert form["refresh_token"] not in stored


async def test_another_request_with_a_spent_token_is_refused_and_ends_nothing(
    http: httpx.AsyncClient, provider: StoringProvider
) -> None:
    form = await refresh_of(http, await code_of(provider))
    tokens = (await http.post("/token", data=form)).json()
    other = await http.post("/token", data={**form, "scope": "read"})
    assert other.json()["error"] == "invalid_grant"
    assert (await http.post("/token", data={**form, "refresh_token": tokens["refresh_token"]})).status_code == 200


async def test_a_recorded_answer_is_for_who_authenticates(http: httpx.AsyncClient, provider: StoringProvider) -> None:
    secret = {"token_endpoint_auth_method": "client_secret_post", "client_secret": "a secret"}
    redeem = {**await code_of(provider, **secret), "client_secret": "a secret"}
    form = {**await refresh_of(http, redeem), "client_secret": "a secret"}
    tokens = (await http.post("/token", data=form)).json()
    assert (await http.post("/token", data={**form, "client_secret": "a guess"})).status_code == 401
    assert (await http.post("/token", data=form)).json() == tokens


async def test_a_token_of_a_provider_that_does_not_rotate_stays_good(store: AtomicStore) -> None:
    provider = NonRotatingProvider(store)
    async with replica(compose(provider, store, grace=0)) as http:
        form = await refresh_of(http, await code_of(provider))
        answers = [await http.post("/token", data=form) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len(await records(store, SESSIONS)) == 1


async def test_a_client_that_goes_away_cuts_nothing_short(
    http: httpx.AsyncClient, provider: StoringProvider, store: AtomicStore
) -> None:
    form = await code_of(provider)
    provider.go_on.clear()
    request = asyncio.create_task(http.post("/token", data=form))
    await provider.begun.acquire()
    request.cancel()
    await asyncio.wait([request])
    provider.go_on.set()
    assert (await http.post("/token", data=form)).status_code == 200
    assert provider.exchanges == 1


async def test_an_answer_to_a_connection_that_was_closed_is_given_again(
    http: httpx.AsyncClient, provider: StoringProvider, app: Starlette
) -> None:
    form = await code_of(provider)
    body = urlencode(form).encode()
    messages: list[Message] = [{"type": "http.disconnect"}, {"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if len(messages) > 1 else messages[0]

    async def send(_: Message) -> None:
        """Nobody is there."""

    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    scope = {"type": "http", "method": "POST", "path": "/token", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    assert (await http.post("/token", data=form)).status_code == 200
    assert provider.exchanges == 1


async def test_what_was_cut_off_after_its_record_is_finished_when_it_is_repeated(
    http: httpx.AsyncClient, provider: StoringProvider, store: AtomicStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = await code_of(provider)
    put = store.put

    async def fail_once(*arguments: Any, **options: Any) -> None:
        if options.get("collection") == SESSIONS:
            monkeypatch.setattr(store, "put", put)
            raise OSError("no space left on device")
        await put(*arguments, **options)

    monkeypatch.setattr(store, "put", fail_once)
    assert (await http.post("/token", data=form)).status_code == 503
    assert await records(store, SESSIONS) == []
    assert (await http.post("/token", data=form)).status_code == 200
    assert len(await records(store, SESSIONS)) == 1
    assert provider.exchanges == 1


async def test_a_token_whose_successor_was_used_was_answered(
    http: httpx.AsyncClient, provider: StoringProvider, app: Starlette, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the note that an answer was sent got lost, whoever has the old token must not get the new one for ever."""
    first = await refresh_of(http, await code_of(provider))

    async def never_sent(_: Delivery) -> bool:
        return False

    monkeypatch.setattr(Delivery, "was_sent", never_sent)
    async with replica(compose(provider, provider.below, grace=0)) as strict:
        answered = (await strict.post("/token", data=first)).json()
        assert (await strict.post("/token", data=first)).json() == answered
        second = {**first, "refresh_token": answered["refresh_token"]}
        assert (await strict.post("/token", data=second)).status_code == 200
        assert (await strict.post("/token", data=first)).json()["error"] == "invalid_grant"
    assert await records(provider.below, SESSIONS) == []


async def test_the_grace_time_counts_until_a_request_arrives_and_not_until_its_turn(
    provider: StoringProvider, store: AtomicStore
) -> None:
    async with replica(compose(provider, store, grace=1)) as http:
        form = await refresh_of(http, await code_of(provider))
        answered = await http.post("/token", data=form)
        session = next(iter([key async for key, _ in store.entries(SESSIONS)]))
        # As a process leaves it that dies: nobody gives it back.
        await store.put(f"session {session}", {"holder": "who died"}, collection=LEASES, ttl=2)
        assert (await http.post("/token", data=form)).json() == answered.json()


async def test_of_two_that_both_held_the_lease_only_the_first_to_record_counts(provider: StoringProvider) -> None:
    """A replica that was stopped for longer than its lease goes on when another one has taken over."""
    store = open_store("memory")
    provider.store = JournaledStore(store)
    form = await code_of(provider)
    provider.go_on.clear()
    before = Scrape.here()
    async with replica(compose(provider, store)) as late, replica(compose(provider, store)) as other:
        stopped = asyncio.create_task(late.post("/token", data=form))
        await provider.begun.acquire()
        for name in [key async for key, _ in store.entries(LEASES)]:
            await store.delete(name, collection=LEASES)
        taken_over = asyncio.create_task(other.post("/token", data=form))
        await provider.begun.acquire()
        provider.go_on.set()
        answers = await asyncio.gather(stopped, taken_over)
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    assert len(await records(store, SESSIONS)) == 1
    assert len(await records(store, ISSUED)) == 1
    assert Scrape.here().increases_since(before, "claims_lost_total") == {("authorization_code",): 1}


@pytest.mark.parametrize(
    "body",
    [
        "grant_type=refresh_token&refresh_token=a&refresh_token=b&client_id=c",
        "grant_type=authorization_code&grant_type=refresh_token&code=a&refresh_token=b&client_id=c",
    ],
)
async def test_a_repeated_parameter_is_refused(http: httpx.AsyncClient, body: str) -> None:
    answer = await http.post("/token", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"


async def test_what_is_no_code_and_no_refresh_token_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/token", data={"grant_type": "client_credentials", "client_id": "unknown"})
    assert answer.json()["error"] == "unsupported_grant_type"
