"""However many tokens name an unknown key, the identity provider is asked for its keys once for all of them."""

import asyncio
from typing import Any

import pytest
from fastmcp.server.auth.providers.jwt import JWTVerifier


class Asked(JWTVerifier):
    """Has an identity provider that never has the key, and takes its time to say so."""

    def __init__(self, **more: Any) -> None:
        super().__init__(jwks_uri="https://idp.example/keys", **more)
        self.times = 0

    async def _fetch_jwks(self) -> dict[str, Any]:
        self.times += 1
        await asyncio.sleep(0)
        return {"keys": []}


async def look_for_a_key(verifier: JWTVerifier, name: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)key"):
        await verifier._get_jwks_key(name)


async def test_who_comes_meanwhile_and_soon_after_does_not_ask_again() -> None:
    verifier = Asked()
    await asyncio.gather(*(look_for_a_key(verifier, f"key {number}") for number in range(8)))
    await look_for_a_key(verifier, "one more")
    assert verifier.times == 1


async def test_a_shorter_interval_can_be_set() -> None:
    verifier = Asked(jwks_refresh_interval=0)
    await look_for_a_key(verifier, "one")
    await look_for_a_key(verifier, "another")
    assert verifier.times == 2
