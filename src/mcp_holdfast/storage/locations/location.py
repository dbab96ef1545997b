"""A place for one store: what can be asked of it, and how it is filled."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import ClassVar

from key_value.aio.errors import KeyValueOperationError, KeyValueStoreError, StoreSetupError

from mcp_holdfast.settings import ConfigurationError, Problem
from mcp_holdfast.storage.atomic import LeaseBusy, Leases
from mcp_holdfast.storage.backends import Backend, EngineProblem
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION

STORE_ERRORS = (OSError, KeyValueOperationError, KeyValueStoreError, sqlite3.Error)

FILLING, FILLED = "filling", "filled"
"""Records in HOLDFAST_COLLECTION: the place is not filled to its end; it is, and no server has used it since."""

ALONE_FOR = 30.0
"""Seconds after which another command may take the place of one that was killed."""


class Location(ABC):
    """A place for one store."""

    variable: ClassVar[str]
    """The variable that names it."""

    remedy: ClassVar[str]
    """What to do where it cannot be used."""

    @abstractmethod
    def problems(self) -> list[Problem]:
        """What speaks against it, as far as can be told without storing anything."""

    @abstractmethod
    def told(self) -> dict[str, str]:
        """What the log says of it."""

    @abstractmethod
    async def warnings(self, backend: Backend) -> list[str]:
        """What is wrong with a place that can be used all the same."""

    @abstractmethod
    def open(self, *, may_create: bool = True) -> Backend:
        """Open the backend there, without a seal.

        Raises:
            ConfigurationError: that cannot be.

        """

    async def refuse_unfinished(self) -> None:
        """Refuse what was not filled to its end.

        Raises:
            ConfigurationError: that is so.

        """
        if await self._has_any(FILLING):
            what = f"{self} is being filled, or that was cut off"
            remedy = "Repeat 'holdfast import --from'; or empty it, and restore the backup again"
            raise ConfigurationError([Problem(self.variable, what, remedy)])

    @abstractmethod
    async def has_store(self) -> bool:
        """Whether a server has begun a store there; makes nothing."""

    @abstractmethod
    async def refuse_wrong_user(self) -> None:
        """Refuse to work on a store as a user whose records its server could not read.

        Raises:
            ConfigurationError: this process runs as such a user.

        """

    @abstractmethod
    def filled(self) -> AbstractAsyncContextManager[Backend]:
        """Fill an empty place inside the block: what was put into the backend is there as a whole or not at all.

        Raises:
            ConfigurationError: it is not empty.

        """

    @abstractmethod
    async def refuse_filled(self) -> None:
        """Refuse a place where there is something already.

        Raises:
            ConfigurationError: there is.

        """

    @abstractmethod
    async def _has_any(self, *keys: str) -> bool:
        """Whether one of these is in HOLDFAST_COLLECTION; makes nothing."""

    @asynccontextmanager
    async def filled_again(self) -> AsyncIterator[Backend]:
        """Fill a place inside the block that is empty, or was filled in this way and has not been served since.

        Raises:
            ConfigurationError: there is something else.

        """
        with self.problems_named():
            await self._refuse_served()
            backend = self.open()
        try:
            async with self._alone(backend):
                with self.problems_named():
                    # Somebody else may have filled it meanwhile, and a server have begun with that.
                    await self._refuse_served()
                    await backend.put(FILLING, {}, collection=HOLDFAST_COLLECTION)
                yield backend
                with self.problems_named():
                    await backend.put(FILLED, {}, collection=HOLDFAST_COLLECTION)
                    await backend.delete(FILLING, collection=HOLDFAST_COLLECTION)
        finally:
            await backend.close()

    async def _refuse_served(self) -> None:
        if await self.has_store() and not await self._has_any(FILLING, FILLED):
            what = f"{self} has a store that was served, and would be overwritten"
            raise ConfigurationError([Problem(self.variable, what, "Name an empty place")])

    @asynccontextmanager
    async def _alone(self, backend: Backend) -> AsyncIterator[None]:
        try:
            # Leases always name their collection, without which a backend has no place for a record.
            async with Leases(backend, lifetime=ALONE_FOR).hold(FILLING, wait=0):  # type: ignore[arg-type]
                yield
        except LeaseBusy:
            what = f"{self} is being filled by somebody else"
            raise ConfigurationError([Problem(self.variable, what, "Wait for that to end")]) from None

    @contextmanager
    def problems_named(self) -> Iterator[None]:
        """Turn what a store raises into a problem of the variable that names the place."""
        try:
            yield
        except (*STORE_ERRORS, EngineProblem) as error:
            reason = error.__cause__ if isinstance(error, StoreSetupError) and error.__cause__ else error
            raise ConfigurationError([Problem(self.variable, f"cannot use {self}: {reason}", self.remedy)]) from error
