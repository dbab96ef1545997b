"""What Cloudflare Access says of a request that it let through: a signed assertion, which anyone could also make up.

See https://developers.cloudflare.com/cloudflare-one/access-controls/applications/http-apps/authorization-cookie/validating-json/
"""

import time
from collections.abc import Sequence

from fastmcp.server.auth.auth import AccessToken
from fastmcp.server.auth.providers.jwt import JWTVerifier

from mcp_holdfast.auth.provider_keys import follow_key_rotation
from mcp_holdfast.auth.shield import Shield
from mcp_holdfast.auth.verification import VerifiedTokens

LONGEST_ASSERTION = 16 * 1024
CLOCKS_DIFFER_BY = 60
"""In seconds, at most."""


class Assertions:
    """Verifies assertions: signature, issuer, audience and time. A good one is remembered briefly.

    What comes from another team, for another application or without an end is none.
    """

    def __init__(self, team: str, audience: Sequence[str], shield: Shield, *, lifetime: float) -> None:
        """`audience` are the tags of the applications; `lifetime` is in seconds, for what is remembered."""
        issuer = f"https://{team}.cloudflareaccess.com"
        self._verifier = JWTVerifier(
            jwks_uri=f"{issuer}/cdn-cgi/access/certs", issuer=issuer, audience=[*audience], algorithm="RS256"
        )
        follow_key_rotation(self._verifier)
        self._verified = VerifiedTokens(self._verify, shield, lifetime=lifetime)

    async def is_good(self, assertion: str) -> bool:
        """Whether it is one; where Cloudflare's keys cannot be had, that is noted (outage.note)."""
        return len(assertion) <= LONGEST_ASSERTION and await self._verified(assertion) is not None

    async def _verify(self, assertion: str) -> AccessToken | None:
        verified = await self._verifier.verify_token(assertion)
        if verified is None or verified.expires_at is None:
            return None
        not_before = (verified.claims or {}).get("nbf", 0)
        is_begun = isinstance(not_before, int | float) and not_before <= time.time() + CLOCKS_DIFFER_BY
        return verified if is_begun else None
