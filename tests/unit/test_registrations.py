"""Registrations of clients at a provider of FastMCP's: which are repeated, which make room, which are kept."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.registration_site import CALLBACK, CLIENTS, DAY, WEBSITE, Site, described
from mcp_holdfast import outage
from mcp_holdfast.auth.registrations import ANSWERS, FATES, REGISTRATIONS, SLOTS, RegistrationDropped, Registrations
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.backends import Memory


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
