"""The ASGI layer round the page to which an identity provider sends the browser back with its code.

That code is good for one exchange there. So what the provider made of it is recorded like an answer of the token
endpoint, and a reload of the page gets the same redirect, whatever became of the server or the connection.
"""

import hashlib
import json

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_holdfast import outage
from mcp_holdfast.asgi import path_of, response_of
from mcp_holdfast.auth.exchange.delivery import Delivery, answer_in_time
from mcp_holdfast.auth.exchange.exchange import ask, open_with, seal_with
from mcp_holdfast.auth.sessions import LONGEST_WAIT
from mcp_holdfast.auth.shield import Shield, Unfinished
from mcp_holdfast.storage.atomic import AtomicStore, Leases
from mcp_holdfast.storage.journal import apply_deletes, keeping_journal, persist

CALLBACKS = "holdfast_callbacks"
REMEMBERED_FOR = 300.0
"""In seconds; as long as the code lives that the redirect carries."""


class CallbackEndpoint:
    """Wraps an application whose GET `path` redeems an identity provider's code; everything else passes through."""

    def __init__(self, app: ASGIApp, *, path: str, store: AtomicStore, leases: Leases, shield: Shield) -> None:
        self._app = app
        self._path = path.rstrip("/")
        self._store = store
        self._leases = leases
        self._shield = shield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_ours = scope["type"] == "http" and scope["method"] == "GET" and path_of(scope) == self._path
        if not is_ours or not {"code", "state"} <= Request(scope).query_params.keys():
            await self._app(scope, receive, send)
            return
        http = Request(scope, receive)
        response = await answer_in_time(self._shield, http, lambda delivery: self._come_back(http, delivery))
        await response(scope, receive, send)

    async def _come_back(self, http: Request, delivery: Delivery) -> None:
        # The same browser with the same link: its cookies show that it is the one that began (RFC 9700, section 4.7).
        secret = json.dumps([http.url.query, http.headers.get("cookie", "")])
        key = hashlib.sha256(secret.encode()).hexdigest()
        async with self._leases.hold(f"callback {key}", wait=LONGEST_WAIT):
            response = await self._recorded(key, secret) or await self._redeem(http, key, secret)
            delivery.give(response)

    async def _recorded(self, key: str, secret: str) -> Response | None:
        record = await self._store.get(key, collection=CALLBACKS)
        opened = open_with(secret, record["answer"]) if record else None
        if opened is None:
            return None
        answer = json.loads(opened)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer["headers"]]
        return response_of(answer["status"], headers, b"")

    async def _redeem(self, http: Request, key: str, secret: str) -> Response:
        with keeping_journal(hold_deletes=True) as journal:
            response = await ask(self._app, http.scope, http.receive)
        if response.status_code >= 400 and outage.noted():
            raise Unfinished
        if 300 <= response.status_code < 400:
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
            answer = seal_with(secret, json.dumps({"status": response.status_code, "headers": headers}).encode())
            record = {"answer": answer}
            await persist(journal, lambda: self._store.put(key, record, collection=CALLBACKS, ttl=REMEMBERED_FOR))
        await apply_deletes(self._store, sorted(journal.deletes))
        if response.status_code >= 500:
            # What the identity provider refuses is the link's fault, not the server's.
            response.status_code = 400
        return response
