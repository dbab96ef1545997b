"""While the store of a real server fails or hangs, clients are told "later"; afterwards everything goes on."""

import errno
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from harness.faults import StoreFaults
from harness.oauth import OAuthClient, Person, hidden_fields
from harness.server import PIN, Server

ANSWERED_WITHIN = 25.0
BROWSER = {"Accept": "text/html,*/*;q=0.8"}
Ask = Callable[[], httpx.Response]


@pytest.fixture(scope="module")
def store_faults(tmp_path_factory: pytest.TempPathFactory) -> StoreFaults:
    return StoreFaults(tmp_path_factory.mktemp("faults") / "control.json")


@pytest.fixture(scope="module", params=["filetree", "disk"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, store_faults: StoreFaults
) -> Iterator[Server]:
    environment = {
        **store_faults.environment,
        "EXA_MCP_STORAGE_BACKEND": request.param,
        # Each call asks the store whether the token is good.
        "HOLDFAST_TOKEN_CACHE": "0",
        "HOLDFAST_REGISTRATIONS_PER_MINUTE": "1000",
    }
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory / "data", directory / "server.log", **environment).start()
    yield server
    server.stop()


@pytest.fixture
def faults(store_faults: StoreFaults, server: Server) -> Iterator[StoreFaults]:
    """Faults that are over, and whose operations have ended, after each test."""
    yield store_faults
    store_faults.heal()
    server.wait_until_ready()


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=ANSWERED_WITHIN) as client:
        yield client


@pytest.fixture
def client(http: httpx.Client) -> OAuthClient:
    return OAuthClient(http).sign_in()


def requests_of(client: OAuthClient, page: str) -> list[Ask]:
    """Every kind of request that needs the store; `page` is a sign-in page that is open."""
    form = {**hidden_fields(client.http.get(page).text), "answer": "approve", "pin": PIN}
    access_token, refresh_token = client.tokens["access_token"], client.tokens["refresh_token"]
    return [
        lambda: OAuthClient(client.http).register(),
        client.authorize,
        lambda: client.http.post("/signin", data=form, headers=BROWSER),
        lambda: client.refresh(refresh_token),
        lambda: client.revoke(refresh_token),
        lambda: client.call(access_token),
    ]


def assert_says_later(response: httpx.Response) -> None:
    assert response.status_code == 503, (response.request.url.path, response.text)
    assert int(response.headers["retry-after"]) > 0
    assert response.headers["cache-control"] == "no-store"
    assert not any(word in response.text for word in ("/data", "Errno", "Traceback", "Store"))
    if response.request.url.path == "/signin":
        assert response.headers["content-type"].startswith("text/html")
    else:
        assert response.json()["error"] == "temporarily_unavailable"


def assert_goes_on(client: OAuthClient) -> None:
    assert client.call_tool("greet").status_code == 200
    assert client.refresh().status_code == 200
    assert client.call().status_code == 200
    assert OAuthClient(client.http).sign_in().call().status_code == 200


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=errno.errorcode.get)
def test_a_failing_store_ends_no_session(client: OAuthClient, faults: StoreFaults, number: int) -> None:
    requests = requests_of(client, client.authorize().headers["location"])
    faults.fail(number=number)
    for ask in requests:
        assert_says_later(ask())
    faults.heal()
    assert_goes_on(client)


def test_a_full_disk_ends_no_session(client: OAuthClient, faults: StoreFaults) -> None:
    refresh_token = client.tokens["refresh_token"]
    faults.fail(("put", "add"), errno.ENOSPC)
    assert client.call().status_code == 200
    for _ in range(3):
        assert_says_later(client.refresh(refresh_token))
    faults.heal()
    assert_goes_on(client)


def test_a_hung_store_is_not_waited_for(client: OAuthClient, faults: StoreFaults, server: Server) -> None:
    requests = requests_of(client, client.authorize().headers["location"])
    faults.hang()
    with ThreadPoolExecutor(len(requests)) as threads:
        began = time.monotonic()
        responses = list(threads.map(lambda ask: ask(), requests))
    assert time.monotonic() - began < ANSWERED_WITHIN
    for response in responses:
        assert_says_later(response)
    assert httpx.get(f"{server.url}/livez", timeout=2).status_code == 200
    faults.heal()
    server.wait_until_ready()
    # The revocation may have been done since: who was told "later" may not rely on either.
    assert OAuthClient(client.http).sign_in().call().status_code == 200


def test_a_slow_store_is_waited_for(client: OAuthClient, faults: StoreFaults) -> None:
    faults.slow(0.3)
    assert client.call().status_code == 200
    assert client.refresh().status_code == 200


def test_a_person_is_told_to_come_back(client: OAuthClient, faults: StoreFaults) -> None:
    page = client.authorize().headers["location"]
    faults.fail()
    later = client.http.get("/authorize", params={"client_id": client.client_id}, headers=BROWSER)
    assert later.status_code == 503
    assert "reload this page" in later.text
    faults.heal()
    assert Person(client.http).approve(page).status_code == 303


def test_what_a_tool_cannot_reach_is_its_own_affair(client: OAuthClient) -> None:
    response = client.call_tool("call_a_dead_host")
    assert response.status_code == 200
    assert "isError" in response.text


def test_the_log_names_the_cause_and_no_secret(client: OAuthClient, faults: StoreFaults, server: Server) -> None:
    before = len(server.output())
    faults.fail()
    client.refresh()
    said = server.output()[before:]
    (line,) = (line for line in said.splitlines() if "answered 503" in line)
    assert "path=/token" in line
    assert "OSError EIO" in line
    assert client.tokens["refresh_token"] not in said


def test_a_volume_that_is_gone_is_no_answer_about_a_token(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", tmp_path / "log", HOLDFAST_TOKEN_CACHE="0").start()
    with httpx.Client(base_url=server.url, timeout=ANSWERED_WITHIN) as http:
        client = OAuthClient(http).sign_in()
        store = (tmp_path / "data/oauth-proxy").rename(tmp_path / "elsewhere")
        asked: list[Ask] = [client.call, client.refresh, client.authorize, lambda: client.revoke("a token")]
        assert [ask().status_code for ask in asked] == [503] * 4
        store.rename(tmp_path / "data/oauth-proxy")
        server.wait_until_ready()
        client.refresh().raise_for_status()
        assert client.call().status_code == 200
    server.stop()
