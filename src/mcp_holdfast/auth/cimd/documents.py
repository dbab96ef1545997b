"""Clients' metadata documents: fetched by FastMCP, those of clients that signed in kept in the store."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from fastmcp.server.auth.cimd import CIMDDocument, CIMDFetcher, CIMDFetchError, CIMDValidationError, _CIMDCachePolicy
from fastmcp.server.auth.ssrf import SSRFError, SSRFFetchError, ssrf_safe_fetch
from key_value.aio.adapters.pydantic import PydanticAdapter
from key_value.aio.protocols import AsyncKeyValue
from pydantic import AnyHttpUrl, BaseModel, TypeAdapter

from mcp_holdfast import outage
from mcp_holdfast.fastmcp_line import httpx

log = logging.getLogger(__name__)

PRIVATE_KEY_JWT = "private_key_jwt"
DOCUMENTS = "holdfast_client_documents"

FETCHED_WITHIN = 5.0
"""Seconds for a document and its keys, name look-up included."""

MOST_FETCHED_AT_ONCE = 20
"""By a process: anyone may name a host that never answers, and others are not to wait behind that."""

FRESH_AT_LEAST, FRESH_AT_MOST = 60.0, 3600.0
"""Seconds for which a document is not asked for again, whatever its host says."""

LAST_GOOD_FOR = 30 * 86400.0
"""Seconds for which the last good document of a client that signed in counts while no newer one can be had."""

LONGEST_URL = 2000
LARGEST_KEY_SET = 65536

MOST_ASKED_AGAIN, ASKED_AGAIN_WITHIN = 3, 10.0
"""How often a client's host is asked for keys that are not known, in so many seconds."""

NOT_TO_BE_HAD = (
    CIMDFetchError,
    CIMDValidationError,
    SSRFError,
    SSRFFetchError,
    httpx.InvalidURL,
    RecursionError,
    ValueError,
)

_URL: TypeAdapter[AnyHttpUrl] = TypeAdapter(AnyHttpUrl)


class KeptDocument(BaseModel):
    """The last good document of a client that signed in. Times are in seconds since the epoch."""

    document: CIMDDocument
    fresh_until: float
    good_until: float


class ClientDocuments(CIMDFetcher):
    """Documents by their URLs, which are clients' identifiers.

    Those of clients that never signed in are remembered by FastMCP, in memory, a thousand at most: strangers store
    nothing. Those of others are shared by all workers and replicas, and survive restarts and their hosts' outages.
    """

    def __init__(self, store: AsyncKeyValue, *, may_fetch: bool = True, can_fetch: bool = False) -> None:
        """`store` is below the journal: a document belongs to no session. Without `may_fetch` the kept ones count.

        `can_fetch` says whether clients are told that they may use documents, and whether a failure will pass.
        """
        super().__init__(timeout=FETCHED_WITHIN)
        self.can_fetch = can_fetch
        self.failed = asyncio.Event()
        """Set when a document could not be had."""
        self._may_fetch = may_fetch
        self._fetching = 0
        self._asked_again: list[tuple[str, float]] = []
        self._kept: PydanticAdapter[KeptDocument] = PydanticAdapter(
            key_value=store,
            pydantic_model=KeptDocument,
            default_collection=DOCUMENTS,
            raise_on_validation_error=False,
        )

    def is_cimd_client_id(self, client_id: str) -> bool:
        """Whether it is the URL of a document (section 3), written so that comparing texts compares URLs."""
        try:
            url, parts = str(_URL.validate_python(client_id)), urlsplit(client_id)
        except ValueError:
            return False
        is_bare = "#" not in client_id and "@" not in parts.netloc and not {".", ".."} & set(parts.path.split("/"))
        return url == client_id and len(url) <= LONGEST_URL and is_bare and super().is_cimd_client_id(client_id)

    async def fetch(self, client_id_url: str) -> CIMDDocument:
        """Get the document of a client; the last good one where it has signed in and no newer one can be had.

        Raises:
            CIMDFetchError: there is none. Where that will pass, outage.note() was called.

        """
        kept = await self._kept.get(client_id_url)
        if kept is not None and (time.time() < kept.fresh_until or not self._may_fetch):
            return kept.document
        if kept is not None:
            # What this process remembers from before the sign-in is older still.
            self._remove_cache_entry(client_id_url)
        with outage.watching() as causes:
            try:
                document = await self._fetch_in_time(client_id_url)
            except CIMDFetchError as error:
                reason = str(error)
            else:
                if kept is not None:
                    await self._keep(client_id_url, document)
                return document
        self.failed.set()
        if kept is not None and time.time() < kept.good_until:
            await self._try_again_later(client_id_url, kept, reason)
            return kept.document
        for cause in causes if self.can_fetch else ():
            outage.note(cause)
        raise CIMDFetchError(reason)

    async def fetch_again(self, client_id_url: str) -> CIMDDocument:
        """Get the document, and its keys, as its host has them now.

        Anyone can name a client and a key that nobody knows, so its host is asked a few times only, and then later.

        Raises:
            CIMDFetchError: it cannot be had. Where that will pass, outage.note() was called.

        """
        now = time.monotonic()
        self._asked_again = [(url, at) for url, at in self._asked_again if now < at + ASKED_AGAIN_WITHIN]
        if sum(url == client_id_url for url, _ in self._asked_again) >= MOST_ASKED_AGAIN:
            outage.note(f"the document at {client_id_url} was asked for too often")
            raise CIMDFetchError("it was asked for too often")
        self._asked_again.append((client_id_url, now))
        self._remove_cache_entry(client_id_url)
        try:
            document = await self._fetch_in_time(client_id_url)
        except CIMDFetchError:
            if self.can_fetch:
                outage.note(f"the document at {client_id_url} cannot be had")
            raise
        if await self._kept.get(client_id_url) is not None:
            await self._keep(client_id_url, document)
        return document

    async def keep(self, client_id: str) -> None:
        """Keep the document of a client that completes a sign-in, from now on."""
        if not self.is_cimd_client_id(client_id) or await self._kept.get(client_id) is not None:
            return
        # It was there a moment ago, and is remembered for at least a minute.
        if (entry := self._cache.get(client_id)) is not None:
            await self._keep(client_id, await self._with_keys(entry.doc))

    async def _keep(self, client_id: str, document: CIMDDocument) -> None:
        now, entry = time.time(), self._cache.get(client_id)
        fresh_until = entry.expires_at if entry else now + FRESH_AT_LEAST
        kept = KeptDocument(document=document, fresh_until=fresh_until, good_until=now + LAST_GOOD_FOR)
        await self._kept.put(client_id, kept)

    async def _try_again_later(self, client_id: str, kept: KeptDocument, reason: str) -> None:
        log.warning(
            "a client's document cannot be had; the last good one counts",
            extra={"client": client_id, "reason": reason},
        )
        await self._kept.put(client_id, kept.model_copy(update={"fresh_until": time.time() + FRESH_AT_LEAST}))

    async def _fetch_in_time(self, client_id_url: str) -> CIMDDocument:
        if not self._may_fetch:
            raise CIMDFetchError("this server fetches no documents")
        if self._fetching >= MOST_FETCHED_AT_ONCE:
            outage.note("too many clients' documents are being fetched")
            raise CIMDFetchError("too many are being fetched")
        self._fetching += 1
        try:
            async with asyncio.timeout(FETCHED_WITHIN):
                return await self._with_keys(await super().fetch(client_id_url))
        except TimeoutError:
            outage.note(f"{urlsplit(client_id_url).hostname} did not answer in time")
            raise CIMDFetchError("it did not come in time") from None
        except NOT_TO_BE_HAD as error:
            raise CIMDFetchError(str(error)) from error
        finally:
            self._fetching -= 1

    async def _with_keys(self, document: CIMDDocument) -> CIMDDocument:
        """The document with its keys in it, so that all that a client is known by is kept, and changes, together."""
        if document.jwks_uri is None or document.token_endpoint_auth_method != PRIVATE_KEY_JWT:
            return document
        content = await ssrf_safe_fetch(str(document.jwks_uri), max_size=LARGEST_KEY_SET, timeout=FETCHED_WITHIN)
        keys: Any = json.loads(content)
        if not isinstance(keys, dict) or not isinstance(keys.get("keys"), list):
            raise CIMDValidationError("jwks_uri leads to no key set (RFC 7517, section 5)")
        usable = [key for key in keys["keys"] if isinstance(key, dict)]
        return document.model_copy(update={"jwks": {"keys": usable}, "jwks_uri": None})

    def _parse_cache_policy(self, headers: Mapping[str, str], now: float) -> _CIMDCachePolicy:
        policy = super()._parse_cache_policy(headers, now)
        lifetime = min(max(policy.freshness_lifetime, FRESH_AT_LEAST), FRESH_AT_MOST)
        return replace(
            policy, expires_at=now + lifetime, freshness_lifetime=lifetime, no_store=False, must_revalidate=False
        )
