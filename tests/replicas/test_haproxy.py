"""compose/haproxy.cfg: an MCP session stays at its replica, the others' requests go to whoever is ready."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp import McpError

from harness.faults import StoreFaults
from harness.oauth import OAuthClient
from harness.server import ServerProcess
from harness.waiting import HANGS_AFTER, eventually
from replicas.balancers import HAPROXY_CFG, program
from replicas.conftest import REPLICAS, SignIn, Site, faults_of

SESSIONS = 6
CALLS = 5


@pytest.fixture
def client(site: Site, sign_in: SignIn) -> OAuthClient:
    return sign_in(site.url)


@asynccontextmanager
async def session(site: Site, client: OAuthClient) -> AsyncIterator[Client[StreamableHttpTransport]]:
    transport = StreamableHttpTransport(f"{site.url}/mcp", auth=client.tokens["access_token"])
    async with Client(transport) as session:
        yield session


async def port_of(session: Client[StreamableHttpTransport]) -> str:
    """Where this session's replica listens."""
    return str((await session.call_tool("port")).data)


def is_listening(server: ServerProcess) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) == 0


async def ports_of_new_sessions(site: Site, client: OAuthClient) -> set[str]:
    ports = set()
    for _ in range(SESSIONS):
        async with session(site, client) as opened:
            ports.add(await port_of(opened))
    return ports


def test_it_is_valid_without_a_warning_but_that_of_names_that_only_compose_knows(installed: None) -> None:
    done = subprocess.run([program("haproxy"), "-c", "-f", HAPROXY_CFG], capture_output=True, text=True, check=True)
    warnings = [line for line in done.stderr.splitlines() if "[WARNING]" in line]
    assert [line for line in warnings if "could not resolve address 'holdfast-" not in line] == []


async def test_a_session_stays_at_its_replica_and_new_ones_go_to_all(site: Site, client: OAuthClient) -> None:
    seen = set()
    for _ in range(SESSIONS):
        async with session(site, client) as opened:
            ports = {await port_of(opened) for _ in range(CALLS)}
        assert len(ports) == 1
        seen |= ports
    assert len(seen) == REPLICAS


async def test_the_session_of_a_killed_replica_ends_with_a_clear_error_and_is_opened_anew(
    site: Site, client: OAuthClient
) -> None:
    async with session(site, client) as opened:
        replica = site.replica_on(await port_of(opened))
        replica.kill()
        eventually(lambda: is_listening(replica), lambda listening: not listening)
        with pytest.raises(McpError, match="Session terminated"):
            await port_of(opened)
    assert str(replica.port) not in await ports_of_new_sessions(site, client)


async def test_a_drained_replica_keeps_its_sessions_and_gets_no_new_ones(site: Site, client: OAuthClient) -> None:
    async with session(site, client) as opened:
        port = await port_of(opened)
        call = asyncio.create_task(opened.call_tool("wait", {"seconds": 2}))
        assert site.balancer.administer(f"set server holdfast/{site.name_of(port)} state drain") == ""
        assert port not in await ports_of_new_sessions(site, client)
        assert (await call).data == "waited"
        assert await port_of(opened) == port
        site.balancer.administer(f"set server holdfast/{site.name_of(port)} state ready")
    assert port in await ports_of_new_sessions(site, client)


async def test_a_replica_that_is_not_ready_keeps_its_sessions_and_gets_no_new_ones(
    site: Site, client: OAuthClient
) -> None:
    async with session(site, client) as opened:
        port = await port_of(opened)
        StoreFaults(faults_of(site.replica_on(port))).fail(["put"])
        eventually(site.balancer.states, lambda states: states[site.name_of(port)].startswith("DOWN"))
        assert port not in await ports_of_new_sessions(site, client)
        assert await port_of(opened) == port


def test_where_no_replica_is_ready_the_answer_is_later(site: Site) -> None:
    for replica in site.replicas:
        replica.kill()
    eventually(site.balancer.states, lambda states: all(state.startswith("DOWN") for state in states.values()))
    answer = httpx.post(f"{site.url}/token", data={"grant_type": "refresh_token"}, timeout=HANGS_AFTER)
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert answer.headers["retry-after"] == "2"


def test_no_query_is_logged(site: Site, client: OAuthClient) -> None:
    before = site.balancer.output().count("GET /authorize")
    client.authorize(state="a-secret-state")
    log = eventually(site.balancer.output, lambda log: log.count("GET /authorize") > before)
    assert "a-secret-state" not in log
