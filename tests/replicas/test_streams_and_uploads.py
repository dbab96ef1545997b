"""What is silent for long, large or from somewhere passes through both configurations as it was sent."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from harness.server import ServerProcess
from harness.waiting import HANGS_AFTER
from replicas.balancers import Nginx
from replicas.conftest import Site

SILENCE = 65
"""Seconds: longer than nginx and HAProxy wait where nobody has told them otherwise, which is a minute at most."""

UPLOAD = 64 * 2**20


@pytest.fixture(params=["haproxy", "nginx"])
def balancer(request: pytest.FixtureRequest) -> ServerProcess:
    if request.param == "nginx":
        nginx: Nginx = request.getfixturevalue("nginx")
        return nginx
    site: Site = request.getfixturevalue("site")
    return site.balancer


def silent_stream(url: str) -> list[str]:
    with httpx.stream("GET", f"{url}/silent/{SILENCE}", timeout=SILENCE + 30) as stream:
        return list(stream.iter_text())


def test_a_stream_may_be_silent_for_longer_than_a_minute(site: Site, nginx: Nginx) -> None:
    with ThreadPoolExecutor() as threads:
        assert list(threads.map(silent_stream, [site.url, nginx.url])) == [["begin ", "end"]] * 2


def test_an_event_comes_as_soon_as_it_is_sent(balancer: ServerProcess) -> None:
    with httpx.stream("GET", f"{balancer.url}/silent/3600", timeout=HANGS_AFTER) as stream:
        assert next(stream.iter_text()) == "begin "


def test_a_large_upload_passes(balancer: ServerProcess) -> None:
    answer = httpx.post(f"{balancer.url}/upload", content=bytes(UPLOAD), timeout=120)
    assert (answer.status_code, answer.json()["bytes"]) == (200, UPLOAD)


def test_the_server_sees_where_a_request_comes_from_whatever_it_claims(balancer: ServerProcess) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.7"), timeout=HANGS_AFTER) as client:
        for claimed in ({}, {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "127.0.0.1"}):
            assert client.post(f"{balancer.url}/upload", headers=claimed).json()["from"] == "127.0.0.7"


def test_nginx_has_nothing_to_complain_of(nginx: Nginx) -> None:
    done = subprocess.run([*nginx.command(), "-t"], capture_output=True, text=True, check=True)
    assert "test is successful" in done.stderr
    assert "[warn]" not in done.stderr


def test_nginx_logs_no_query(nginx: Nginx) -> None:
    for _ in ("while its server is there", "when it is not"):
        httpx.get(f"{nginx.url}/authorize?state=a-secret-state", timeout=HANGS_AFTER)
        nginx.server.stop()
    logged = "".join(log.read_text() for log in nginx.logs) + nginx.output()
    assert "/authorize" in logged
    assert "a-secret-state" not in logged
