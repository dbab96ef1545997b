"""Registration of clients at a provider of FastMCP's: what is refused, what is kept, what makes room."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import FastMCP
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from mcp.shared.auth import InvalidRedirectUriError, OAuthClientInformationFull
from pydantic import AnyUrl

from mcp_holdfast import outage
from mcp_holdfast.auth.local.grants import Grants
from mcp_holdfast.auth.providers import plan_provider
from mcp_holdfast.auth.registrations import (
    ANSWERS,
    DEFAULT_ALLOW_LIST,
    FATES,
    REGISTRATIONS,
    SLOTS,
    RedirectAllowList,
    RegistrationDropped,
    Registrations,
    network_of,
)
from mcp_holdfast.http.limits import Allowance
from mcp_holdfast.http.registration import RegistrationLimits
from mcp_holdfast.settings import ConfigurationError, Environment
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.backends import Memory
from mcp_holdfast.storage.journal import JournaledStore
from mcp_holdfast.storage.keys import KeyRing

CLIENTS = "mcp-oauth-proxy-clients"
CALLBACK = "http://localhost:4711/callback"
WEBSITE = "https://claude.ai/api/mcp/auth_callback"
DAY = 86400.0


@pytest.fixture(params=["memory", "filetree"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AtomicStore:
    return open_store(request.param, path=tmp_path, keys=KeyRing(("a secret for tests" * 3,), "test"))


class Site:
    """A server with a few slots and hardly any limit of rate, unless told otherwise."""

    def __init__(self, store: AtomicStore, *, slots: int = 50, lifetime: float = DAY, **limits: int) -> None:
        self.store = store
        self.provider = OAuthProxy(
            upstream_authorization_endpoint="https://idp.example.com/authorize",
            upstream_token_endpoint="https://idp.example.com/token",
            upstream_client_id="upstream",
            upstream_client_secret="secret",
            token_verifier=StaticTokenVerifier({}),
            base_url="http://localhost",
            client_storage=JournaledStore(store),
            jwt_signing_key=b"k" * 32,
            require_authorization_consent="external",
        )
        self.bare = FastMCP("Test", auth=self.provider).http_app(path="/mcp")
        self.registrations = self.restarted(slots=slots, lifetime=lifetime)
        limits = {"per_minute": 1_000_000, "per_minute_of_all": 1_000_000, **limits}
        self.app = RegistrationLimits(
            self.bare, registrations=self.registrations, allow_list=DEFAULT_ALLOW_LIST, **limits
        )

    def restarted(self, *, slots: int = 50, lifetime: float = DAY) -> Registrations:
        return Registrations(self.store, clients=self.provider, most_unused=slots, lifetime=lifetime)

    async def post(
        self, body: Any, *, address: str = "192.0.2.1", path: str = "/register", **headers: str
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, client=(address, 1234))
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.post(path, content=content, headers=headers)

    async def register(self, *, address: str = "192.0.2.1", **metadata: Any) -> str:
        response = await self.post(described(**metadata), address=address)
        assert response.status_code == 201, response.text
        return str(response.json()["client_id"])

    async def lives(self, client_id: str) -> bool:
        return await self.provider.get_client(client_id) is not None

    async def count(self, collection: str) -> int:
        return len([key async for key, _ in self.store.entries(collection)])

    async def expiry(self, collection: str, key: str) -> float | None:
        _, ttl = await self.store.ttl(key, collection=collection)
        return ttl


@pytest.fixture
def site(store: AtomicStore) -> Site:
    return Site(store)


def described(**metadata: Any) -> dict[str, Any]:
    return {
        "client_name": "A client",
        "redirect_uris": [WEBSITE],
        "token_endpoint_auth_method": "none",
        **metadata,
    }


class TestRedirectUris:
    @pytest.mark.parametrize(
        "uris",
        [
            [CALLBACK],
            ["http://127.0.0.1/"],
            ["http://[::1]:9/a/b?c=d"],
            ["https://claude.com/api/mcp/auth_callback"],
            ["claude://claude.ai/mcp-auth-callback/sdk"],
            ["https://chatgpt.com/connector_platform_oauth_redirect"],
            ["https://chatgpt.com/connector/oauth/OUbdUMlL15Ct"],
            # What VS Code and Cursor send (microsoft/vscode#278512, erp-mafia/accounted#2225).
            ["https://insiders.vscode.dev/redirect", "https://vscode.dev/redirect", "http://127.0.0.1:33418/"],
            [
                "cursor://anysphere.cursor-mcp/oauth/callback",
                "https://www.cursor.com/agents/mcp/oauth/callback",
                "http://localhost:8787/callback",
            ],
        ],
    )
    async def test_of_programs_and_well_known_clients_are_accepted(self, site: Site, uris: list[str]) -> None:
        response = await site.post(described(redirect_uris=uris))
        assert response.status_code == 201
        assert response.json()["redirect_uris"] == [str(AnyUrl(uri)) for uri in uris]

    @pytest.mark.parametrize(
        "uri",
        [
            "https://evil.example/callback",
            "https://claude.ai/elsewhere",
            "https://claude.ai.evil.example/api/mcp/auth_callback",
            "https://claude.ai:444/api/mcp/auth_callback",
            "https://x@claude.ai/api/mcp/auth_callback",
            "https://chatgpt.com/connector/oauth/%2e%2e/%2e%2e/g",
            "https://chatgpt.com/connector/oauth/..%2f..%2fg",
            "http://claude.ai/api/mcp/auth_callback",
            "http://localhost.evil.example/",
            "http://localhost:80@evil.example/",
            "http:\\\\evil.example\\localhost",
            "http://2130706434/",
            "myapp://oauth/callback",
            "cursor://somebody.else/oauth/callback",
            "javascript:alert(1)",
        ],
    )
    async def test_that_lead_elsewhere_are_refused_with_what_to_do(self, site: Site, uri: str) -> None:
        response = await site.post(described(redirect_uris=[CALLBACK, uri]))
        assert response.status_code == 400
        assert response.json()["error"] == "invalid_redirect_uri"
        assert str(AnyUrl(uri)) in response.json()["error_description"]
        assert "HOLDFAST_REDIRECT_URIS" in response.json()["error_description"]
        assert response.headers["access-control-allow-origin"] == "*"
        assert await site.count(CLIENTS) == 0

    def test_can_be_added(self) -> None:
        more = DEFAULT_ALLOW_LIST.and_also(["https://app.example.com/oauth/*"])
        assert more.allows(AnyUrl("https://app.example.com/oauth/callback"))
        assert more.allows(AnyUrl(WEBSITE))
        assert not more.allows(AnyUrl("https://app.example.com/elsewhere"))

    async def test_registered_before_there_was_a_list_are_not_followed_by_the_local_login(
        self, store: AtomicStore
    ) -> None:
        registered = [AnyUrl("https://old.example/callback"), AnyUrl(CALLBACK)]
        grants = Grants(store)
        await grants.register(OAuthClientInformationFull(client_id="old", redirect_uris=registered))
        client = await grants.client("old")
        assert client
        assert client.validate_redirect_uri(AnyUrl(CALLBACK)) == AnyUrl(CALLBACK)
        with pytest.raises(InvalidRedirectUriError, match="HOLDFAST_REDIRECT_URIS"):
            client.validate_redirect_uri(registered[0])
        allowing = Grants(store, allow_list=DEFAULT_ALLOW_LIST.and_also(["https://old.example/callback"]))
        client = await allowing.client("old")
        assert client
        assert client.validate_redirect_uri(registered[0]) == registered[0]
        with pytest.raises(InvalidRedirectUriError, match="not registered"):
            client.validate_redirect_uri(AnyUrl(WEBSITE))


class TestTheProvidersOwnList:
    own = "FASTMCP_SERVER_AUTH_AZURE_ALLOWED_CLIENT_REDIRECT_URIS"
    azure = {f"FASTMCP_SERVER_AUTH_AZURE_{name}": "x" for name in ("CLIENT_ID", "CLIENT_SECRET", "TENANT_ID")} | {
        "FASTMCP_SERVER_AUTH_AZURE_REQUIRED_SCOPES": "read"
    }

    def patterns(self, **variables: str) -> tuple[list[str], RedirectAllowList]:
        """What the provider is given, and what registrations are held to."""
        plan = plan_provider("azure", Environment(self.azure | variables), base_url="https://mcp.example.com")
        more = DEFAULT_ALLOW_LIST.and_also(["https://more.example/"])
        provider: Any = plan.build(client_storage=open_store("memory"), jwt_signing_key=b"k" * 32, allow_list=more)
        return provider._allowed_client_redirect_uris, plan.allow_list(more)

    def test_is_ours_where_none_is_set(self) -> None:
        given, held_to = self.patterns()
        assert given == list(held_to.patterns)
        assert {WEBSITE, "https://more.example/"} <= set(given)

    def test_replaces_ours_and_is_named_to_clients(self) -> None:
        given, held_to = self.patterns(**{self.own: "https://own.example/callback"})
        assert given == list(held_to.patterns) == ["https://own.example/callback"]
        assert self.own in held_to.refusal(AnyUrl(WEBSITE))

    def test_cannot_stand_beside_ours(self) -> None:
        with pytest.raises(ConfigurationError, match="Keep one of the two"):
            self.patterns(**{self.own: "https://a.example/", "HOLDFAST_REDIRECT_URIS": "https://b.example/"})


class TestSize:
    @pytest.mark.parametrize(
        ("metadata", "status", "error"),
        [
            ({"client_name": "n" * 201}, 400, "invalid_client_metadata"),
            ({"client_name": "\ud800"}, 400, "invalid_client_metadata"),
            ({"redirect_uris": [CALLBACK] * 11}, 400, "invalid_redirect_uri"),
            ({"software_id": "s" * 9000}, 413, "invalid_client_metadata"),
        ],
    )
    async def test_is_limited(self, site: Site, metadata: dict[str, Any], status: int, error: str) -> None:
        response = await site.post(described(**metadata))
        assert (response.status_code, response.json()["error"]) == (status, error)
        assert await site.count(CLIENTS) == 0

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 5000, b'{"redirect_uris": [1]}'])
    async def test_what_is_no_metadata_is_answered_by_the_provider(self, site: Site, body: bytes) -> None:
        ours = await site.post(body)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(site.bare), base_url="http://localhost") as http:
            theirs = await http.post("/register", content=body)
        assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)
        assert ours.status_code == 400


class TestRate:
    async def test_of_one_address_is_limited(self, store: AtomicStore) -> None:
        site = Site(store, per_minute=3)
        answers = [await site.post(described(), address="192.0.2.1") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [201, 201, 201, 429, 429]
        assert answers[-1].json()["error"] == "too_many_requests"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
        assert (await site.post(described(), address="192.0.2.2")).status_code == 201

    async def test_of_all_addresses_together_is_limited(self, store: AtomicStore) -> None:
        site = Site(store, per_minute_of_all=3)
        statuses = [(await site.post(described(), address=f"192.0.2.{n}")).status_code for n in range(5)]
        assert statuses == [201, 201, 201, 429, 429]

    async def test_counts_what_is_refused_too(self, store: AtomicStore) -> None:
        site = Site(store, per_minute=3)
        assert [(await site.post(b"{")).status_code for _ in range(4)] == [400, 400, 400, 429]

    def test_comes_back_with_time(self) -> None:
        clock = [0.0]
        allowance = Allowance(60, most_names=10, now=lambda: clock[0])
        assert [allowance.take("a") for _ in range(60)] == [0.0] * 60
        assert allowance.take("a") == pytest.approx(1)
        clock[0] = 1.0
        assert allowance.take("a") == 0
        assert allowance.take("a") > 0

    def test_remembers_only_so_many_addresses(self) -> None:
        allowance = Allowance(1, most_names=10)
        for number in range(1000):
            allowance.take(str(number))
        assert len(allowance._left) == 10
        assert allowance.take("999") > 0

    def test_counts_a_whole_ipv6_network_as_one(self) -> None:
        assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2") != network_of("2001:db8:0:1::1")
        assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1")
        assert network_of("") == ""


class TestAnswers:
    async def test_are_the_providers_byte_for_byte(self, site: Site) -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(site.bare), base_url="http://localhost") as http:
            theirs = await http.post("/register", json=described(), headers={"Origin": "https://a.example"})
        ours = await site.post(described(), Origin="https://a.example")
        assert list(ours.headers) == list(theirs.headers)
        assert ours.headers["access-control-allow-origin"] == theirs.headers["access-control-allow-origin"]
        variable = {"client_id", "client_id_issued_at"}
        assert [pair for pair in ours.json().items() if pair[0] not in variable] == [
            pair for pair in theirs.json().items() if pair[0] not in variable
        ]

    async def test_to_other_requests_pass(self, site: Site) -> None:
        transport = httpx.ASGITransport(site.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            assert (await http.get("/.well-known/oauth-authorization-server")).status_code == 200
            assert (await http.get("/register")).status_code == 405

    async def test_are_limited_however_the_path_is_written(self, site: Site) -> None:
        refused = described(redirect_uris=["https://evil.example/"])
        for path in ("/register", "/register%0A", "/%72egister", "/register/"):
            assert (await site.post(refused, path=path)).status_code == 400
        assert await site.count(CLIENTS) == 0


class TestRepeatedRegistrations:
    async def test_of_a_program_get_the_same_answer(self, site: Site) -> None:
        first = await site.post(described(redirect_uris=[CALLBACK]))
        second = await site.post(dict(reversed(described(redirect_uris=[CALLBACK]).items())))
        assert (second.status_code, second.content) == (201, first.content)
        assert second.headers == first.headers
        assert await site.count(CLIENTS) == 1

    async def test_get_the_same_answer_after_the_client_signed_in(self, site: Site) -> None:
        client_id = await site.register(redirect_uris=[CALLBACK])
        await site.registrations.keep(client_id)
        assert await site.register(redirect_uris=[CALLBACK]) == client_id

    @pytest.mark.parametrize(
        ("changes", "address"),
        [
            ({}, "192.0.2.2"),
            ({"client_name": "Another client"}, "192.0.2.1"),
            ({"redirect_uris": ["http://localhost:4712/callback"]}, "192.0.2.1"),
        ],
    )
    async def test_that_differ_get_another_client(self, site: Site, changes: dict[str, Any], address: str) -> None:
        first = await site.register(redirect_uris=[CALLBACK])
        assert await site.register(**{"redirect_uris": [CALLBACK], **changes}, address=address) != first

    @pytest.mark.parametrize(
        "metadata",
        [
            {"redirect_uris": [WEBSITE]},
            {"redirect_uris": [CALLBACK, WEBSITE]},
            {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "client_secret_post"},
            {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": None},
        ],
    )
    async def test_of_websites_and_with_secrets_are_separate(self, site: Site, metadata: dict[str, Any]) -> None:
        assert await site.register(**metadata) != await site.register(**metadata)
        assert await site.count(ANSWERS) == 0

    async def test_get_a_new_client_where_the_old_one_is_gone(self, site: Site) -> None:
        first = await site.register(redirect_uris=[CALLBACK])
        await site.store.delete(first, collection=CLIENTS)
        assert await site.register(redirect_uris=[CALLBACK]) != first


class TestUnusedClients:
    async def test_expire(self, store: AtomicStore) -> None:
        site = Site(store, lifetime=0.4)
        client_id = await site.register()
        assert await site.lives(client_id)
        await asyncio.sleep(0.5)
        assert not await site.lives(client_id)
        assert await site.registrations.get(client_id) is None

    async def test_make_room_for_others(self, store: AtomicStore) -> None:
        site = Site(store, slots=1)
        first, second = await site.register(), await site.register()
        assert not await site.lives(first)
        assert await site.lives(second)

    async def test_that_are_oldest_go_first(self, store: AtomicStore) -> None:
        site = Site(store, slots=5)
        clients = [await site.register() for _ in range(40)]
        assert [await site.lives(client) for client in clients] == [False] * 35 + [True] * 5

    async def test_that_expired_leave_nothing_behind(self, store: AtomicStore, tmp_path: Path) -> None:
        site = Site(store, slots=1, lifetime=0.3)
        for port in range(5):
            await site.register(redirect_uris=[f"http://localhost:{port}/"])
            await asyncio.sleep(0.4)
        files = [file for file in tmp_path.rglob("*.json") if "-info" not in file.name and len(file.stem) == 64]
        assert len(files) <= 4
        assert await site.count(SLOTS) == 1

    async def test_of_a_registration_that_fails_leave_nothing(
        self, store: AtomicStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site = Site(store)

        async def fail(*_: Any, **__: Any) -> None:
            raise OSError("no space left")

        monkeypatch.setattr(site.registrations, "remember", fail)
        with pytest.raises(OSError, match="no space"):
            await site.post(described())
        assert await site.count(CLIENTS) == 0

    async def test_tell_who_they_are(self, site: Site) -> None:
        client_id = await site.register(redirect_uris=[WEBSITE, "claude://claude.ai/mcp-auth-callback/sdk"])
        registration = await site.registrations.get(client_id)
        assert registration
        assert registration.places == [(CLIENTS, client_id)]
        assert (registration.client_name, registration.redirect_hosts) == ("A client", ["claude.ai"])
        assert not registration.used
        assert time.time() - registration.registered_at < 60


class TestClientsThatSignedIn:
    async def test_never_expire_and_occupy_no_slot(self, site: Site) -> None:
        client_id = await site.register()
        assert await site.expiry(CLIENTS, client_id) == pytest.approx(DAY, abs=60)
        await site.registrations.keep(client_id)
        assert await site.expiry(CLIENTS, client_id) is None
        assert await site.expiry(REGISTRATIONS, client_id) is None
        assert (await site.count(SLOTS), await site.count(FATES)) == (0, 0)
        registration = await site.registrations.get(client_id)
        assert registration
        assert registration.used

    async def test_outlive_the_time_of_the_others(self, store: AtomicStore) -> None:
        site = Site(store, lifetime=0.4)
        client_id = await site.register()
        await site.registrations.keep(client_id)
        await asyncio.sleep(0.5)
        assert await site.lives(client_id)

    async def test_are_kept_once_however_often_they_come(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        client_id = await site.register()
        await site.registrations.keep(client_id)
        monkeypatch.setattr(site.registrations, "get", None)
        await site.registrations.keep(client_id)
        elsewhere = site.restarted()
        monkeypatch.setattr(elsewhere, "_keep", None)
        await elsewhere.keep(client_id)

    @pytest.mark.parametrize("step", range(12))
    async def test_can_be_kept_after_a_kill_at_any_step(self, store: AtomicStore, step: int) -> None:
        site = Site(store, slots=1)
        client_id = await site.register()
        dying = Registrations(Dying(store, after=step), clients=site.provider, most_unused=1)
        try:
            await dying.keep(client_id)
        except Killed:
            registration = await site.registrations.get(client_id)
            assert registration
            assert not registration.used or await site.expiry(CLIENTS, client_id) is None
        # Others press, and it must not be dropped for them if anybody may think that it was kept.
        begun = step > 1
        if begun:
            await site.register()
            assert await site.lives(client_id)
        await site.restarted(slots=1).keep(client_id)
        assert await site.expiry(CLIENTS, client_id) is None
        for _ in range(3):
            await site.register()
        assert await site.lives(client_id)

    async def test_that_nobody_counted_are_left_alone(self, site: Site) -> None:
        await site.store.put("old", {"client_id": "old", "redirect_uris": [CALLBACK]}, collection=CLIENTS)
        for client_id in ("old", "upstream", "https://client.example/metadata.json"):
            await site.registrations.keep(client_id)
        assert await site.count(REGISTRATIONS) == 0

    async def test_learn_that_they_were_dropped_meanwhile(self, store: AtomicStore) -> None:
        site = Site(store, slots=1)
        first = await site.register()
        await site.register()
        with outage.watching() as causes, pytest.raises(RegistrationDropped):
            await site.registrations.keep(first)
        assert causes
        second = await site.register()
        await store.add(second, {"fate": "dropped"}, collection=FATES)
        with pytest.raises(RegistrationDropped):
            await site.registrations.keep(second)


class Killed(Exception):
    """The process ended."""


class Dying:
    """A store that is gone after a number of operations."""

    def __init__(self, store: AtomicStore, *, after: int) -> None:
        self._store = store
        self._left = after

    def __getattr__(self, name: str) -> Any:
        async def operation(*arguments: Any, **keywords: Any) -> Any:
            if self._left == 0:
                raise Killed
            self._left -= 1
            return await getattr(self._store, name)(*arguments, **keywords)

        return operation


class TestAFlood:
    async def test_is_bounded_and_drops_nobody_who_signed_in(self, store: AtomicStore, tmp_path: Path) -> None:
        site = Site(store, slots=50)
        used = [await site.register(client_name=f"Used {number}") for number in range(5)]
        for client_id in used:
            await site.registrations.keep(client_id)
        async for _ in flood(site, 3000 if isinstance(store, Memory) else 600):
            pass
        assert all([await site.lives(client_id) for client_id in used])
        for collection, most in {CLIENTS: 55, REGISTRATIONS: 55, ANSWERS: 50, SLOTS: 50, FATES: 0}.items():
            assert await site.count(collection) <= most
        assert len([file for file in tmp_path.rglob("*") if file.is_file()]) < 300

    async def test_lets_somebody_sign_in_meanwhile(self, store: AtomicStore) -> None:
        site = Site(store, slots=50)
        async for number in flood(site, 300):
            if number == 200:
                client_id = await site.register(client_name="A real one")
            if number == 205:
                await site.registrations.keep(client_id)
        assert await site.lives(client_id)

    async def test_of_several_processes_is_bounded_too(self, store: AtomicStore) -> None:
        sites = [Site(store, slots=20) for _ in range(4)]

        async def press(site: Site) -> None:
            async for _ in flood(site, 100):
                pass

        await asyncio.gather(*map(press, sites))
        assert await sites[0].count(SLOTS) == 20
        assert await sites[0].count(CLIENTS) <= 22


async def flood(site: Site, number: int) -> AsyncIterator[int]:
    for count in range(number):
        metadata: Mapping[str, Any] = {"client_name": f"Stranger {count}", "redirect_uris": [CALLBACK]}
        await site.register(**metadata, address=f"10.0.{count // 250}.{count % 250}")
        yield count
