"""What the stores on servers have in common: a client for each event loop, and failures that say what failed."""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar
from urllib.parse import SplitResult, urlsplit

from key_value.aio.errors import DeserializationError, KeyValueStoreError, StoreConnectionError

from mcp_holdfast.storage.backends.backend import Backend

QUARANTINE_COLLECTION = "quarantine"
CONNECTS_WITHIN, ANSWERS_WITHIN = 2.5, 3.0
"""In seconds: an engine that does not answer is asked twice before the deadline of a storage operation."""

UNREADABLE = (DeserializationError, KeyError, OSError, OverflowError, RecursionError, TypeError, ValueError)
"""What a record raises that is no entry: no text, no object, nested too deeply, or with times that are none."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
AnyEngine = TypeVar("AnyEngine", bound="Engine")


class EngineProblem(Exception):
    """An engine cannot be used as it is configured; the message says what is wrong and what to do."""


class Engine(Backend):
    """A store on a server that many processes reach. A client belongs to the event loop that made it.

    What cannot be read is set aside into a collection of its own, where it expires after `quarantine` seconds.
    """

    failures: ClassVar[tuple[type[Exception], ...]]
    """What the client raises where the engine failed, or refused."""

    quarantine: float
    may_create: bool
    """Whether what holds the records is made where it is missing."""

    _loop: asyncio.AbstractEventLoop | None = None

    @abstractmethod
    def __init__(self, url: str, *, quarantine: float, may_create: bool = True) -> None:
        """Check the URL, and connect to nothing yet.

        Raises:
            EngineProblem: the URL is wrong.

        """

    @abstractmethod
    async def exists(self) -> bool:
        """Whether what holds the records is there; makes nothing."""

    async def warnings(self) -> list[str]:
        """What is wrong with an engine that can be used all the same."""
        return []

    @abstractmethod
    async def _connect(self) -> None:
        """Make a client for the event loop that runs."""

    @abstractmethod
    async def _prepare(self) -> None:
        """Make what holds the records, or see that it is there.

        Raises:
            EngineProblem: it is missing, and may not be made.

        """

    @abstractmethod
    async def _disconnect(self) -> None:
        """Close the client."""

    async def setup(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._forget_setup()
            self._loop = loop
        await super().setup()

    async def _setup(self) -> None:
        with self.reporting():
            await self._connect()
            await self._prepare()

    async def close(self) -> None:
        if self._loop is asyncio.get_running_loop():
            await self._disconnect()
        self._forget_setup()

    def _warn_about_stability(self) -> None:
        """Say nothing: the version of py-key-value is pinned."""

    def _forget_setup(self) -> None:
        self._setup_complete = False
        self._setup_lock = asyncio.Lock()
        self._setup_collection_locks.clear()
        self._setup_collection_complete.clear()

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Raise what the client raises as StoreConnectionError, which is an outage to all who use a store."""
        try:
            yield
        except KeyValueStoreError:
            raise
        except self.failures as error:
            raise StoreConnectionError(message=f"{type(error).__name__}: {error}") from error


def reported(
    operation: Callable[Concatenate[AnyEngine, Arguments], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[AnyEngine, Arguments], Coroutine[Any, Any, Result]]:
    """Do an operation of an engine inside `reporting`."""

    @wraps(operation)
    async def run(self: AnyEngine, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with self.reporting():
            return await operation(self, *args, **kwargs)

    return run


def parts_of(url: str) -> SplitResult:
    """The parts of a URL.

    Raises:
        EngineProblem: they cannot be told apart; the message has nothing of the URL, which may be a part of a password.

    """
    problem = "characters of a user, password or parameter such as @ : / ? # [ must be written as %40 and so on"
    try:
        url.encode()
        parts = urlsplit(url)
    except ValueError:
        raise EngineProblem(f"{problem}, and an IPv6 address stands in [ and ]") from None
    if url.count("@") > parts.netloc.count("@") or parts.netloc.count("@") > 1 or parts.fragment:
        raise EngineProblem(problem)
    return parts


CAN_BE = {
    "pool_size": "a whole number, 1 to 999999",
    "statement_cache_size": "a whole number, 0 to 999999",
    "region": "a region's name, as in eu-central-1",
    "endpoint_url": "an http or https URL",
}
"""What the parameters of engines' URLs can be, for people."""


def parameters_of(query: dict[str, list[str]], known: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    """The parameters of a URL that are ours, each converted; the others are left for the engine's client.

    Raises:
        EngineProblem: a value is wrong.

    """
    found = {}
    for name, convert in known.items():
        for value in query.pop(name, []):
            try:
                found[name] = convert(value)
            except ValueError:
                can_be = CAN_BE.get(name, f"what {name} can be")
                raise EngineProblem(f"{name}={value} in the URL is not {can_be}") from None
    return found
