"""`/livez`: the process answers. `/readyz`: it can also store what a sign-in needs."""

import asyncio
import logging
import os
import secrets
import socket
import time
from typing import Protocol

from key_value.aio.protocols import AsyncKeyValue
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

log = logging.getLogger(__name__)

COLLECTION = "holdfast_probes"
DEADLINE = 3.0
RESULT_HOLDS_FOR = 1.0
PROBE_LIFETIME = 300


class Readiness:
    """Writes, reads and deletes a record. One probe runs at a time: on a hung volume the others wait for it in vain."""

    def __init__(self, store: AsyncKeyValue) -> None:
        self._store = store
        self._probe: asyncio.Task[str | None] | None = None
        self._probed_at = 0.0
        self._was_usable = True

    async def problem(self) -> str | None:
        """Why the store cannot be used right now, None if it can. Answers within DEADLINE seconds."""
        if self._probe is None or (self._probe.done() and time.monotonic() > self._probed_at + RESULT_HOLDS_FOR):
            self._probe, self._probed_at = asyncio.create_task(self._try_the_store()), time.monotonic()
        try:
            async with asyncio.timeout(DEADLINE):
                return await asyncio.shield(self._probe)
        except TimeoutError:
            return f"the store has not answered for {time.monotonic() - self._probed_at:.0f} s"

    async def _try_the_store(self) -> str | None:
        # The process's own name: replicas that probe one store must not see each other's record.
        key, value = f"{socket.gethostname()} {os.getpid()}", {"probe": secrets.token_hex(8)}
        try:
            await self._store.put(key, value, collection=COLLECTION, ttl=PROBE_LIFETIME)
            found = await self._store.get(key, collection=COLLECTION)
            await self._store.delete(key, collection=COLLECTION)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with the store, the answer is "not ready"
            if self._was_usable:
                log.warning("the store cannot be used", extra={"error": repr(error)})
            self._was_usable = False
            return f"the store cannot be used: {type(error).__name__}"
        if not self._was_usable:
            log.warning("the store can be used again")
        self._was_usable = True
        return None if found == value else "the store does not return what was written to it"


class TellsProblem(Protocol):
    """Knows whether requests can be served."""

    async def problem(self) -> str | None:
        """Why not, for anyone to read; None if they can."""


def health_routes(*conditions: TellsProblem) -> list[Route]:
    """The two routes; `/readyz` tells the first of the problems."""

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        for condition in conditions:
            if (problem := await condition.problem()) is not None:
                return JSONResponse({"status": "not ready", "reason": problem}, 503, {"Retry-After": "5"})
        return JSONResponse({"status": "ready"})

    return [Route("/livez", livez), Route("/readyz", readyz)]
