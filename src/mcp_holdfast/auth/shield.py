"""Tasks that nothing cuts short: neither a client that goes away nor a shutdown."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from mcp_holdfast import outage

Result = TypeVar("Result")

ANSWER_WITHIN = 20.0
"""Seconds until a client is told to come back; what it asked for goes on and is recorded."""

MOST_AT_ONCE = 1000


class Unfinished(Exception):
    """It could not be done now, and nothing was decided; why was noted (outage.note)."""


class Shield:
    """All that is shielded in this process."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Begin some work, which may be waited for (asyncio.wait) but not awaited: that would cancel it.

        Raises:
            Unfinished: too much is going on already.

        """
        if len(self._running) >= MOST_AT_ONCE:
            work.close()
            outage.note("too many requests wait for the store or the identity provider")
            raise Unfinished
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def drain(self) -> None:
        """Wait until what has begun is recorded, as long as a shutdown may take."""
        if self._running:
            await asyncio.wait(self._running, timeout=ANSWER_WITHIN)
