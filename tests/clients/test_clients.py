"""Real clients and a real browser: their users sign in once, whatever happens to the container, except to its volume.

All clients go through each story side by side, so that there is one container to kill and one expiry to wait for.
"""

import time

import pytest

from clients.client import Client
from clients.conftest import ClientsOf, RunContainer
from clients.person import NoSignInPage
from conftest import Say
from harness.container import Container
from harness.waiting import eventually

TOKENS_LIVE = 8.0
TABLE = "real clients"


def test_docker_kill_costs_no_sign_in_and_a_lost_volume_costs_one(
    run_container: RunContainer, clients_of: ClientsOf, subtests: pytest.Subtests, say: Say
) -> None:
    container = run_container(HOLDFAST_REGISTRATIONS_PER_MINUTE="1000")
    clients = clients_of(f"{container.url}/mcp")
    for client in clients:
        with subtests.test("signs in", client=client.name):
            client.sign_in()
            client.use()
    kill_and_start(container)
    for client in clients:
        with subtests.test("goes on after docker kill", client=client.name):
            client.use()
            client.stop()
            client.use()
            client.stop()
            assert client.person.openings == 1
    container.remove()
    run_container(port=container.port)
    for client in clients:
        with subtests.test("signs in again where the volume is lost", client=client.name):
            if client.replays_its_registration:
                with pytest.raises(NoSignInPage):
                    client.sign_in()
                client.forget()
            client.sign_in()
            client.use()
            assert client.person.openings == 2 + client.replays_its_registration
    for client in clients:
        say(TABLE, "openings of the browser: sign-in, docker kill, lost volume", row(client))


@pytest.mark.long
def test_expired_tokens_and_docker_kill_cost_no_sign_in(
    run_container: RunContainer, clients_of: ClientsOf, subtests: pytest.Subtests, say: Say
) -> None:
    container = run_container(HOLDFAST_ACCESS_TOKEN_LIFETIME=f"{TOKENS_LIVE:.0f}s")
    clients = clients_of(f"{container.url}/mcp")
    for client in clients:
        with subtests.test("signs in", client=client.name):
            client.sign_in()
    wait_for_expiry()
    kill_and_start(container)
    for client in clients:
        with subtests.test("goes on after its access token expired and docker kill", client=client.name):
            client.use()
            assert client.person.openings == 1
            client.stop()
    wait_for_expiry()
    kill_and_start(container)
    for client in clients:
        with subtests.test("goes on after it was started anew, too", client=client.name):
            if client.forgets_expiry:
                client.sign_in()
            else:
                client.use()
            assert client.person.openings == 1 + client.forgets_expiry
    for client in clients:
        say(TABLE, "openings of the browser: sign-in, expiry and docker kill, twice", row(client))


def kill_and_start(container: Container) -> None:
    container.kill()
    container.start().wait_until_ready()


def wait_for_expiry() -> None:
    """Until every access token that is out is good no more."""
    now = time.time()
    eventually(time.time, lambda time: time > now + TOKENS_LIVE)


def row(client: Client) -> str:
    return f"{client.name:16}{client.version():10}{client.person.openings}"
