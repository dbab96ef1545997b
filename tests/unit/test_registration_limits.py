"""Requests for a registration: how long and how many they may be, and the answers to those that may pass."""

from typing import Any

import httpx
import pytest

from harness.registration_site import CALLBACK, CLIENTS, Site, described
from mcp_holdfast.auth.registrations import network_of
from mcp_holdfast.http.limits import Allowance
from mcp_holdfast.storage.atomic import AtomicStore


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
