"""A request hidden in another one: HAProxy, as compose/ configures it, and the server see the same requests."""

import re
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from harness.raw import exchange
from harness.server import Server
from harness.waiting import HANGS_AFTER, eventually
from replicas.balancers import STATUS, HAProxy
from unit.test_connections import AMBIGUOUS

Site = tuple[HAProxy, Server]

REFUSED = "400"

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
FURTHER = {
    "a hidden request behind a length": b"Content-Length: %d\r\n\r\n" % len(HIDDEN),
    "a hidden request in a chunk": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(HIDDEN),
    "an extension of a chunk": b"Transfer-Encoding: chunked\r\n\r\n0;x=" + b"y" * 100 + b"\r\n\r\n",
    "a trailer": b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 44\r\n\r\n",
    "a coding in a strange case": b"tRANSFER-eNCODING: cHUNKED\r\n\r\n0\r\n\r\n",
    "a coding with a tab": b"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n",
    "a coding with a line tabulation": b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a length of zeroes": b"Content-Length: 000000000000000000000000000\r\n\r\n",
    "a length of a huge size": b"Content-Length: 18446744073709551616\r\n\r\n",
    "another protocol": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    "an expectation": b"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    "a field that the connection is to lose": b"Connection: Content-Length\r\nContent-Length: 44\r\n\r\n",
    "two hosts": b"Host: other.test\r\n\r\n",
}
ATTACKS = AMBIGUOUS | FURTHER


@pytest.fixture(scope="module")
def site(installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    server = Server(directory / "data", directory / "server.log", GUNICORN_CMD_ARGS="--access-logfile -")
    balancer = HAProxy(directory / "haproxy.log", [server])
    server.environment["HOLDFAST_BASE_URL"] = balancer.url
    try:
        server.start()
        yield balancer.start(), server
    finally:
        balancer.stop()
        server.stop()


def passed_on(balancer: HAProxy) -> Counter[str]:
    """The paths of what HAProxy sent to the server, and the server did not refuse."""
    lines = [line.split() for line in balancer.output().splitlines() if " holdfast/holdfast-1 " in line]
    return Counter(line[-1] for line in lines if line[STATUS] != REFUSED)


def seen(server: Server) -> Counter[str]:
    """The paths of what the server took for a request, and did not refuse."""
    found = re.findall(r'"[A-Z]+ (/\S*) HTTP/1\.[01]" (\d+)', server.output())
    return Counter(path for path, status in found if status != REFUSED)


@pytest.mark.parametrize("number", range(len(ATTACKS)), ids=list(ATTACKS))
def test_both_see_the_same_requests_or_one_refuses_them(site: Site, number: int) -> None:
    balancer, server = site
    attack = list(ATTACKS.values())[number]
    outer = b"POST /outer-%d HTTP/1.1\r\nHost: localhost\r\n" % number
    exchange(balancer.port, outer + attack + HIDDEN.replace(b"hidden", b"hidden-%d" % number), is_all=True)
    # The next request may get a connection to the server on which something was left over.
    answer = httpx.get(f"{balancer.url}/livez?{number}", timeout=HANGS_AFTER)
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})

    def of_this(paths: Counter[str]) -> Counter[str]:
        return Counter({path: times for path, times in paths.items() if path.endswith(f"-{number}")})

    at_both = eventually(
        lambda: (of_this(passed_on(balancer)), of_this(seen(server))), lambda found: found[0] == found[1]
    )
    assert at_both[0][f"/hidden-{number}"] <= 1
