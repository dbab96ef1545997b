"""An engine: a server that keeps the records of many replicas."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from mcp_holdfast.settings import ConfigurationError, Problem
from mcp_holdfast.settings.engine_urls import shown
from mcp_holdfast.storage.backends import Backend, Engine, EngineProblem, open_engine
from mcp_holdfast.storage.locations.location import FILLING, Location
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION, KEY_CHECK_COPIES


@dataclass(frozen=True)
class EngineLocation(Location):
    """A server that keeps the records of many replicas."""

    url: str = field(repr=False)
    quarantine: float

    variable: ClassVar[str] = "HOLDFAST_STORAGE_URL"
    remedy: ClassVar[str] = "See that it runs, can be reached from here, and lets this user in"

    def __str__(self) -> str:
        return shown(self.url)

    def problems(self) -> list[Problem]:
        try:
            open_engine(self.url)
        except EngineProblem as error:
            remedy = "Correct it; docs/engines.md tells what each engine's URL can say"
            return [Problem(self.variable, str(error), remedy)]
        return []

    def told(self) -> dict[str, str]:
        return {"engine": str(self)}

    async def warnings(self, backend: Backend) -> list[str]:
        return await backend.warnings() if isinstance(backend, Engine) else []

    def open(self, *, may_create: bool = True) -> Engine:
        with self.problems_named():
            return open_engine(self.url, quarantine=self.quarantine, may_create=may_create)

    async def has_store(self) -> bool:
        return await self._has_any(*KEY_CHECK_COPIES)

    async def refuse_wrong_user(self) -> None:
        """Whoever is let in can read all records."""

    async def refuse_filled(self) -> None:
        with self.problems_named():
            is_filled = await self._has_any(*KEY_CHECK_COPIES, FILLING)
        if is_filled:
            what = f"{self} has a store, or a restore that was cut off"
            raise ConfigurationError([Problem(self.variable, what, "Empty it first: nothing is overwritten")])

    @asynccontextmanager
    async def filled(self) -> AsyncIterator[Backend]:
        backend = self.open()
        try:
            with self.problems_named():
                if not await backend.add(FILLING, {}, collection=HOLDFAST_COLLECTION):
                    what = f"{self} is being filled by somebody else"
                    raise ConfigurationError([Problem(self.variable, what, "Wait for that to end")])
            yield backend
            with self.problems_named():
                await backend.delete(FILLING, collection=HOLDFAST_COLLECTION)
        finally:
            await backend.close()

    async def _has_any(self, *keys: str) -> bool:
        backend = self.open(may_create=False)
        try:
            if not await backend.exists():
                return False
            return any([await backend.read(key, collection=HOLDFAST_COLLECTION) is not None for key in keys])
        finally:
            await backend.close()
