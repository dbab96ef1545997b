"""What the log says of a server that starts: one line that tells what runs on what, and warnings of its volume."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mcp_holdfast.auth.registrations import REGISTRATIONS
from mcp_holdfast.auth.sessions import SESSIONS
from mcp_holdfast.storage.backends import Backend
from mcp_holdfast.storage.locations import STORE_ERRORS, Location
from mcp_holdfast.storage.opening import KeyRings

log = logging.getLogger(__name__)

COUNTED = {"clients": ("holdfast_clients", "mcp-oauth-proxy-clients"), "sessions": (SESSIONS,)}
COUNTED |= {"registrations": (REGISTRATIONS,)}
MOST_COUNTED = 10_000
"""A start must not wait until a large volume is counted."""


async def report_start(location: Location | None, keys: KeyRings, backend: Backend, what: Mapping[str, str]) -> None:
    """Log it; `what` says what runs. Leaves no connection open: gunicorn forks its workers afterwards."""
    fields: dict[str, Any] = {**what}
    if location is not None:
        fields |= {**location.told(), "storage_key": keys.storage.origin, "signing_key": keys.signing.origin}
        for warning in await _warnings(location, backend):
            log.warning("%s %s", location.variable, warning)
    for name, collections in COUNTED.items():
        fields[name] = await _count(backend, collections)
    await backend.close()
    log.info("starting", extra=fields)


async def _count(backend: Backend, collections: Sequence[str]) -> int | str:
    try:
        count = sum([await backend.count(collection, at_most=MOST_COUNTED) for collection in collections])
    except STORE_ERRORS as error:
        log.warning("the store cannot be counted", extra={"error": repr(error)})
        return "unknown"
    return count if count < MOST_COUNTED else f"{MOST_COUNTED} or more"


async def _warnings(location: Location, backend: Backend) -> list[str]:
    try:
        return await location.warnings(backend)
    except STORE_ERRORS as error:
        return [f"could not be examined: {error!r}"]
