"""A lock between the worker processes of one server."""

import asyncio
import fcntl
import os
from types import TracebackType
from typing import Self


class WorkersLock:
    """Held by one coroutine of one worker at a time; made before gunicorn forks, let go when its holder dies.

    flock(2) belongs to an open file, and forked processes share those, so each process opens the same nameless file
    anew.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("holdfast-lock")
        self._descriptor: int | None = None
        self._within_this_process = asyncio.Lock()
        os.register_at_fork(after_in_child=self._forget_the_parents_descriptor)

    def _forget_the_parents_descriptor(self) -> None:
        self._descriptor = None

    async def __aenter__(self) -> Self:
        await self._within_this_process.acquire()
        try:
            if self._descriptor is None:
                self._descriptor = os.open(f"/proc/self/fd/{self._file}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            self._within_this_process.release()
            raise
        waiting = asyncio.ensure_future(asyncio.to_thread(fcntl.flock, self._descriptor, fcntl.LOCK_EX))
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            # The thread goes on waiting and will hold the lock for nobody.
            waiting.add_done_callback(lambda _: self._let_go())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()

    def _let_go(self) -> None:
        if self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._within_this_process.release()
