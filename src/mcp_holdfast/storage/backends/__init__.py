"""The stores that hold records, one file each."""

from importlib import import_module
from pathlib import Path

from mcp_holdfast.settings.engine_urls import backend_of
from mcp_holdfast.storage.backends.backend import Backend
from mcp_holdfast.storage.backends.disk import SQLiteDisk, open_disk
from mcp_holdfast.storage.backends.engine import Engine, EngineProblem
from mcp_holdfast.storage.backends.filetree import FileTree, open_filetree
from mcp_holdfast.storage.backends.memory import Memory, open_memory
from mcp_holdfast.storage.backends.swept import Swept

DISK = "disk"
"""Where the `disk` backend keeps its database, below the store's directory."""

ENGINES = {
    "redis": ("redis", "RedisEngine"),
    "valkey": ("redis", "RedisEngine"),
    "postgresql": ("postgresql", "PostgreSQLEngine"),
    "dynamodb": ("dynamodb", "DynamoDBEngine"),
    "mongodb": ("mongodb", "MongoDBEngine"),
}
"""The module and class of each."""

KEPT_IN_QUARANTINE = 7 * 86400.0

__all__ = [
    "DISK",
    "Backend",
    "Engine",
    "EngineProblem",
    "FileTree",
    "Memory",
    "SQLiteDisk",
    "Swept",
    "open_backend",
    "open_disk",
    "open_engine",
    "open_filetree",
    "open_memory",
]


def open_backend(name: str, path: Path | None = None) -> Backend:
    """Open a backend as it is, without a seal: `filetree` and `disk` in the directory `path`.

    Raises:
        ValueError: the backend is unknown, or misses its path.

    """
    if name == "memory":
        return open_memory()
    if path is None:
        raise ValueError(f"the {name} backend needs a path")
    if name == "filetree":
        return open_filetree(path)
    if name == "disk":
        return open_disk(path / DISK)
    raise ValueError(f"unknown backend {name!r}: choose filetree, disk or memory, or open_engine")


def open_engine(url: str, *, quarantine: float = KEPT_IN_QUARANTINE, may_create: bool = True) -> Engine:
    """Open a backend on a server, without a seal; connects to nothing yet.

    Each brings a client library that takes its time to be imported, so only the one that is used is.

    Raises:
        EngineProblem: the URL is wrong, or the package that it needs is missing.

    """
    name = backend_of(url)
    if name is None:
        raise EngineProblem("the URL is for no engine that Holdfast knows")
    module, engine = ENGINES[name]
    try:
        chosen: type[Engine] = getattr(import_module(f"{__name__}.{module}"), engine)
    except ImportError as error:
        what = f"the package {error.name} is missing; install py-key-value-aio[{module}]"
        raise EngineProblem(what) from error
    return chosen(url, quarantine=quarantine, may_create=may_create)
