"""Notice two machines of one host name on a network file system.

To an NFS server a client that names itself like another one is the same one, restarted (RFC 8881, section 2.4): it
takes the other one's locks away. The name is that of the machine which mounted the volume; a container that mounts it
itself gives its own, one that is given it may be called otherwise, and cannot see what its machine is called.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from key_value.aio.protocols import AsyncKeyValue

log = logging.getLogger(__name__)

REPLICAS = "holdfast_replicas"
TOLD_EVERY = 30.0
"""In seconds; a machine that has not been heard of for three times as long is gone."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class HostName:
    """Says from time to time that a machine of this name is alive, and looks whether another one says so, too."""

    def __init__(self, store: AsyncKeyValue, *, name: str | None = None, machine: str | None = None) -> None:
        self._store = store
        self._name = name or socket.gethostname()
        self._machine = machine or _boot_id()

    @asynccontextmanager
    async def in_background(self) -> AsyncIterator[None]:
        """Run inside the block."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            try:
                await self.tell()
            except Exception as error:  # noqa: BLE001  # whatever the store does
                log.info("cannot tell other replicas of this one", extra={"error": repr(error)})
            await asyncio.sleep(TOLD_EVERY)

    async def tell(self) -> None:
        """Say it once; a warning is logged where another machine has said the same."""
        told = await self._store.get(self._name, collection=REPLICAS)
        if told is not None and told.get("machine") != self._machine:
            what = "another machine uses the store under this host name, or did a minute ago; if they mount the volume "
            what += "under it, an NFS server takes them for one: give each replica a host name of its own"
            log.warning(what, extra={"host": self._name})
        value = {"machine": self._machine}
        await self._store.put(self._name, value, collection=REPLICAS, ttl=3 * TOLD_EVERY)


def _boot_id() -> str:
    """What tells this machine, as long as it runs, from all others (proc(5))."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
