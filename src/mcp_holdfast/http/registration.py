"""Limits for strangers who register clients, whichever provider keeps these."""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast.asgi import REGISTRATION, HeldAnswer, address_of, is_post, replay, response_of
from mcp_holdfast.auth.registrations import (
    RecordedAnswer,
    RedirectAllowList,
    Registration,
    Registrations,
    fingerprint_of,
    network_of,
    parsed,
)
from mcp_holdfast.auth.scopes import available
from mcp_holdfast.http.limits import MOST_NETWORKS, Allowance
from mcp_holdfast.storage.journal import Journal, keeping_journal

log = logging.getLogger(__name__)

LONGEST_REGISTRATION = 8 * 1024
"""In bytes. With the number of unused clients it bounds what strangers can store."""

LONGEST_NAME = 200
MOST_REDIRECT_URIS = 10
MOST_PER_MINUTE_OF_ALL = 300


class RegistrationLimits:
    """Wraps an application whose POST /register is FastMCP's; its answers go out as they are.

    The application runs in a journal, so that the client that it stores expires and is known by its records.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        registrations: Registrations,
        allow_list: RedirectAllowList,
        scopes: Sequence[str] | None,
        per_minute: int,
        per_minute_of_all: int | None = None,
    ) -> None:
        """`scopes` are those that clients get at most, None for any; others that they ask for are left out.

        `per_minute` is for each network address; both numbers are for each worker process.
        All addresses together get MOST_PER_MINUTE_OF_ALL unless one alone may have more.
        """
        self._app = app
        self._registrations = registrations
        self._allow_list = allow_list
        self._scopes = scopes
        self._of_one = Allowance(per_minute, most_names=MOST_NETWORKS)
        self._of_all = Allowance(per_minute_of_all or max(per_minute, MOST_PER_MINUTE_OF_ALL))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_post(scope, REGISTRATION):
            await self._app(scope, receive, send)
            return
        try:
            response = self._check_rate(scope) or await self._answer(scope, receive)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    def _check_rate(self, scope: Scope) -> Response | None:
        wait = self._of_one.take(network_of(address_of(scope))) or self._of_all.take()
        if not wait:
            return None
        log.info("refused a registration: too many a minute", extra={"address": address_of(scope)})
        seconds = max(1, math.ceil(wait))
        response = _error(429, "too_many_requests", f"too many clients are registering; try again in {seconds} s")
        response.headers["Retry-After"] = str(seconds)
        return response

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        body = await Request(scope, receive).body()
        if len(body) > LONGEST_REGISTRATION:
            return _error(413, "invalid_client_metadata", f"the metadata is longer than {LONGEST_REGISTRATION} bytes")
        metadata = _metadata_in(body)
        if refused := self._refuse(metadata):
            return refused
        if self._scopes is not None and isinstance(metadata.get("scope"), str):
            metadata["scope"] = available(metadata["scope"], self._scopes) or None
            body = json.dumps(metadata).encode()
        fingerprint = fingerprint_of(metadata, address=address_of(scope), origin=Headers(scope=scope).get("origin", ""))
        recorded = await self._registrations.recorded_answer(fingerprint) if fingerprint else None
        if recorded is not None:
            return response_of(
                201, [(name.encode(), value.encode()) for name, value in recorded.headers], recorded.body
            )
        return await self._register(scope, replay(body, receive), metadata, fingerprint)

    def _refuse(self, metadata: Mapping[str, Any]) -> Response | None:
        """Refuse what we do not allow. What is no metadata at all FastMCP refuses, with its own words."""
        name, uris = metadata.get("client_name"), metadata.get("redirect_uris")
        if isinstance(name, str) and len(name) > LONGEST_NAME:
            return _error(400, "invalid_client_metadata", f"client_name is longer than {LONGEST_NAME} characters")
        if not _can_be_written(metadata):
            return _error(400, "invalid_client_metadata", "the metadata is not valid Unicode or is nested too deeply")
        if metadata.get("token_endpoint_auth_method") == "private_key_jwt":
            return _error(400, "invalid_client_metadata", "private_key_jwt is for clients whose client_id is a URL")
        if "redirect_uris" in metadata and uris is None:
            return _error(400, "invalid_redirect_uri", "redirect_uris is missing (RFC 7591, section 2)")
        if not isinstance(uris, list):
            return None
        if len(uris) > MOST_REDIRECT_URIS:
            return _error(400, "invalid_redirect_uri", f"there are more than {MOST_REDIRECT_URIS} redirect_uris")
        for uri in filter(None, map(parsed, uris)):
            if uri.fragment is not None:
                return _error(400, "invalid_redirect_uri", f"{str(uri)[:200]} has a fragment (RFC 6749, section 3.1.2)")
            if not self._allow_list.allows(uri):
                log.warning("refused a registration: redirect URI not allowed", extra={"uri": str(uri)[:200]})
                return _error(400, "invalid_redirect_uri", self._allow_list.refusal(uri))
        return None

    async def _register(
        self, scope: Scope, receive: Receive, metadata: Mapping[str, Any], fingerprint: str | None
    ) -> Response:
        with keeping_journal(hold_deletes=False, default_ttl=self._registrations.lifetime) as journal:
            answer = HeldAnswer()
            try:
                await self._app(scope, receive, answer.send)
                if answer.status == 201:
                    await self._remember(answer, journal, metadata, fingerprint)
            except Exception:
                await self._registrations.discard(list(journal.writes))
                raise
        if answer.status != 201:
            await self._registrations.discard(list(journal.writes))
        return answer.response()

    async def _remember(
        self, answer: HeldAnswer, journal: Journal, metadata: Mapping[str, Any], fingerprint: str | None
    ) -> None:
        if not journal.writes:
            # The provider keeps its clients elsewhere, and for as long as it wants to.
            return
        client = json.loads(answer.body)
        name, uris = client.get("client_name"), client.get("redirect_uris") or []
        registration = Registration(
            places=sorted(journal.writes),
            client_name=name,
            redirect_hosts=sorted({_host_of(uri) for uri in uris}),
            registered_at=time.time(),
        )
        if "client_secret" in client:
            fingerprint = None
        await self._registrations.remember(client["client_id"], registration, fingerprint=fingerprint)
        if fingerprint:
            headers = [(header.decode("latin-1"), value.decode("latin-1")) for header, value in answer.headers]
            recorded = RecordedAnswer(client_id=client["client_id"], headers=headers, body=answer.body.decode())
            await self._registrations.record_answer(fingerprint, recorded)


def _metadata_in(body: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _can_be_written(metadata: Mapping[str, Any]) -> bool:
    try:
        json.dumps(metadata, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _host_of(uri: str) -> str:
    parts = urlsplit(uri)
    return parts.netloc or f"{parts.scheme}:"


def _error(status: int, error: str, description: str) -> Response:
    """Build an error of the registration endpoint (RFC 7591, section 3.2.2) that clients in browsers can read."""
    headers = {"Cache-Control": "no-store", "Access-Control-Allow-Origin": "*"}
    if status == 429:
        headers["Access-Control-Expose-Headers"] = "Retry-After"
    return JSONResponse({"error": error, "error_description": description}, status, headers)
