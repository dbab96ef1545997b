"""The assertions that clients with keys authenticate by: each is good for one request, on all workers and replicas."""

import hashlib
import json

from fastmcp.server.auth.auth import PrivateKeyJWTClientAuthenticator
from fastmcp.server.auth.cimd import CIMDAssertionValidator, CIMDDocument, CIMDFetchError
from joserfc import jws
from joserfc.errors import JoseError
from mcp.server.auth.middleware.client_auth import AuthenticationError
from mcp.shared.auth import OAuthClientInformationFull
from starlette.requests import Request

from mcp_holdfast.asgi import path_of
from mcp_holdfast.auth.cimd.documents import PRIVATE_KEY_JWT, ClientDocuments
from mcp_holdfast.storage.atomic import AtomicStore

ASSERTIONS = "holdfast_client_assertions"

REMEMBERED_FOR = 400.0
"""Seconds; FastMCP accepts none that is good for longer than 300, on a clock that is up to 30 ahead of ours."""


class Assertions(CIMDAssertionValidator):
    """Checks assertions as FastMCP does, with the client's newest keys, and remembers in the store who used one."""

    def __init__(self, documents: ClientDocuments, store: AtomicStore) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._jti_cache = _Forgetful()
        self._documents = documents
        self._store = store

    async def validate_assertion(
        self, assertion: str, client_id: str, token_endpoint: str, cimd_doc: CIMDDocument
    ) -> bool:
        """Check an assertion (RFC 7523, section 3). Of a key that is not known yet the client's host is asked.

        Raises:
            ValueError: it is not good.

        """
        try:
            key_id = jws.extract_compact(assertion.encode()).headers().get("kid")
            known = {key.get("kid") for key in (cimd_doc.jwks or {}).get("keys", [])}
            if key_id is not None and key_id not in known:
                cimd_doc = await self._documents.fetch_again(client_id)
            return await super().validate_assertion(assertion, client_id, token_endpoint, cimd_doc)
        except (JoseError, CIMDFetchError, AttributeError, TypeError) as error:
            raise ValueError(f"it cannot be checked: {type(error).__name__}") from error

    async def use(self, assertion: str, client_id: str, request: str) -> None:
        """Use up an assertion that is good for a request. The same request may come again: its answer may be lost.

        Raises:
            AuthenticationError: it was used for another one (RFC 7523, section 3, number 7).

        """
        identifier = json.loads(jws.extract_compact(assertion.encode()).payload)["jti"]
        key = hashlib.sha256(json.dumps([client_id, identifier]).encode()).hexdigest()
        record = {"request": request}
        if await self._store.add(key, record, collection=ASSERTIONS, ttl=REMEMBERED_FOR):
            return
        if await self._store.get(key, collection=ASSERTIONS) != record:
            raise AuthenticationError("Invalid client assertion: it was used before, for another request")


class AssertingAuthenticator(PrivateKeyJWTClientAuthenticator):
    """Authenticates clients as FastMCP does, and lets an assertion be used for one request only."""

    async def authenticate_request(self, request: Request) -> OAuthClientInformationFull:
        client, assertions = await super().authenticate_request(request), self._cimd_manager._assertion_validator
        if client.token_endpoint_auth_method == PRIVATE_KEY_JWT and isinstance(assertions, Assertions):
            assertion = str((await request.form())["client_assertion"])
            await assertions.use(assertion, str(client.client_id), await _fingerprint(request))
        return client


async def _fingerprint(request: Request) -> str:
    """Equal for requests that are the same in all that they say."""
    fields = sorted((name, str(value)) for name, value in (await request.form()).multi_items())
    return hashlib.sha256(json.dumps([path_of(request.scope), fields]).encode()).hexdigest()


class _Forgetful(dict[str, float]):
    """What a process remembers of assertions: nothing, since others would not know of it."""

    def __setitem__(self, key: str, value: float) -> None:
        """Forget it."""
