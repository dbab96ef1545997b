"""A second OpenID provider, PyPI's canaille: its JWTs are signed with RS512 and have no scopes."""

from collections.abc import Sequence
from pathlib import Path

import httpx

from harness.environments import interpreter_of
from harness.outside import Outside
from harness.server import ServerProcess

PROGRAM = Path(__file__).with_name("canaille_server.py")


class Canaille(ServerProcess):
    """One person and one confidential client are registered."""

    account = "ada"
    password = "the password of ada"

    def __init__(
        self,
        directory: Path,
        configuration_url: str,
        *,
        client_id: str,
        client_secret: str,
        redirect_uri: str,
        access_token_lifetime: int,
    ) -> None:
        directory.mkdir()
        super().__init__(directory / "log", {})
        self._configuration_url = configuration_url
        self.outside_host = httpx.URL(configuration_url).host
        self.outside = Outside(directory, [self.outside_host])
        self.environment |= {
            "HOST": self.outside_host,
            "STATE": str(directory / "state.sqlite"),
            "ACCOUNT": self.account,
            "PASSWORD": self.password,
            "CLIENT_ID": client_id,
            "CLIENT_SECRET": client_secret,
            "REDIRECT_URI": redirect_uri,
            "ACCESS_TOKEN_LIFETIME": str(access_token_lifetime),
            **self.outside.of_players,
        }

    def command(self) -> Sequence[str]:
        return [str(interpreter_of("canaille")), str(PROGRAM)]

    def answers(self) -> bool:
        with self.outside.http() as http:
            try:
                return http.get(self._configuration_url).is_success
            except httpx.TransportError:
                return False

    def stop(self) -> None:
        super().stop()
        self.outside.close()
