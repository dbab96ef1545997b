"""Promise 9: a key or the provider's client secret is rotated, replica by replica, and nobody signs in again."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from harness.environments import LINE, programs_of
from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient, answer_parameters
from harness.proxy_login import ProxyPerson
from harness.server import ServerProcess
from harness.traffic import LoadBalancer, Traffic
from harness.waiting import HANGS_AFTER
from promises.conftest import Replicas, StartReplicas, Tell

CLIENTS = 4
OLD, NEW = "the-key-until-now-of-enough-characters", "the-key-from-now-on-of-enough-characters"
NEW_SECRET = "another-upstream-secret-another-0002"
STOCK_KEY = "FASTMCP_SERVER_AUTH_OAUTHPROXY_JWT_SIGNING_KEY"
CLIENT_SECRET = "FASTMCP_SERVER_AUTH_OAUTHPROXY_UPSTREAM_CLIENT_SECRET"

Rotate = Callable[[Replicas, str], None]


def rotate_storage_key(replicas: Replicas, target: str) -> None:
    if target == "stock":
        give(replicas, {STOCK_KEY: NEW})
        return
    give(replicas, {"HOLDFAST_STORAGE_KEY": NEW, "HOLDFAST_STORAGE_KEY_PREVIOUS": OLD})
    run_beside(replicas.servers[0], "rotate")
    give(replicas, {"HOLDFAST_STORAGE_KEY": NEW})


def rotate_signing_key(replicas: Replicas, target: str) -> None:
    if target == "stock":
        give(replicas, {STOCK_KEY: NEW})
        return
    give(replicas, {"HOLDFAST_SIGNING_KEY": NEW, "HOLDFAST_SIGNING_KEY_PREVIOUS": OLD})


def rotate_client_secret(replicas: Replicas, _: str) -> None:
    replicas.provider.environment["CLIENT_SECRET"] = NEW_SECRET
    replicas.provider.restart()
    give(replicas, {CLIENT_SECRET: NEW_SECRET})


def give(replicas: Replicas, changes: dict[str, str]) -> None:
    """Restart one replica after the other with other settings, as a rolling update does."""
    for server in replicas.servers:
        server.environment.pop("HOLDFAST_STORAGE_KEY_PREVIOUS", None)
        server.environment.update(changes)
        server.terminate()
        server.wait_for_exit()
        server.start()


def run_beside(server: ServerProcess, command: str) -> None:
    program = programs_of(LINE) / "holdfast"
    subprocess.run([program, command], env={"PATH": "/usr/bin:/bin", **server.environment}, check=True)


@pytest.fixture
def provider(tmp_path: Path) -> IdentityProvider:
    """One for each test: its secret is changed."""
    return IdentityProvider(tmp_path / "identity-provider")


@pytest.mark.parametrize(
    ("what", "rotate", "later_is_an_answer"),
    [
        ("storage key", rotate_storage_key, False),
        ("signing key", rotate_signing_key, False),
        # The provider knows one secret at a time, so until a replica is given the new one it can only say "later".
        ("provider's client secret", rotate_client_secret, True),
    ],
)
def test_nobody_signs_in_again(
    start_replicas: StartReplicas,
    provider: IdentityProvider,
    tell: Tell,
    target: str,
    what: str,
    rotate: Rotate,
    later_is_an_answer: bool,
) -> None:
    keys = {"HOLDFAST_STORAGE_KEY": OLD, "HOLDFAST_SIGNING_KEY": OLD}
    if target == "stock" and rotate is not rotate_client_secret:
        keys[STOCK_KEY] = OLD
    provider.start()
    try:
        replicas = start_replicas(2, provider, **keys)
        clients = [replicas.client(f"client {number}") for number in range(CLIENTS)]
        under_way = SignIn(replicas)
        for client in clients:
            balancer = LoadBalancer([server.url for server in replicas.servers])
            client.http = replicas.clients.enter_context(
                httpx.Client(base_url=replicas.servers[0].url, transport=balancer, timeout=HANGS_AFTER)
            )
        with Traffic(clients).flowing() as traffic:
            rotate(replicas, target)
        alive = sum(client.refresh().status_code == 200 for client in clients)
        finished = under_way.finish()
    finally:
        provider.stop()
    told = {status for status in traffic.answers if status != 200}
    tell(
        f"9. The {what} rotated under load",
        f"{traffic.answers.total()} answers, by status {dict(sorted(traffic.answers.items()))}; "
        f"{alive} of {CLIENTS} sessions go on; a sign-in under way {'went on' if finished else 'was lost'}",
        told <= ({503} if later_is_an_answer else set()) and alive == CLIENTS and finished,
    )


class SignIn:
    """A person who is at the identity provider's page when the rotation begins."""

    def __init__(self, replicas: Replicas) -> None:
        self._client: OAuthClient = replicas.new_client()
        self._client.register(client_name="who is signing in").raise_for_status()
        self._person = ProxyPerson(quick=True)
        page = self._client.authorize().headers["location"]
        self._location = self._person.allow(self._person.open(page)).headers["location"]

    def finish(self) -> bool:
        """Whether the person comes back with a code that is good."""
        answer = self._person.bring_back(self._person.sign_in(self._location))
        return answer.is_redirect and self._client.redeem(answer_parameters(answer).get("code", "")).is_success
