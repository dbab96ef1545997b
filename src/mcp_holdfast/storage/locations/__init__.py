"""Where a store is, or is to be: a directory on the volume, or an engine."""

from pathlib import Path

from mcp_holdfast.settings import ConfigurationError, Problem, Settings
from mcp_holdfast.settings.engine_urls import ENGINES, backend_of
from mcp_holdfast.storage.locations.directory import Directory, store_directory
from mcp_holdfast.storage.locations.engine import EngineLocation
from mcp_holdfast.storage.locations.location import FILLED, STORE_ERRORS, Location

__all__ = [
    "FILLED",
    "STORE_ERRORS",
    "Directory",
    "EngineLocation",
    "Location",
    "location_at",
    "location_of",
    "store_directory",
]


def location_of(settings: Settings) -> Location | None:
    """Where the settings want the store; None for memory, and for an engine whose URL is missing or wrong."""
    if settings.backend == "memory":
        return None
    if settings.backend not in ENGINES:
        return Directory(settings.backend, settings.home)
    url = settings.storage_url
    return None if url is None else EngineLocation(url.get_secret_value(), settings.quarantine)


def location_at(url: str, option: str, *, quarantine: float) -> Location:
    """The place that a URL names: filetree:///HOME, disk:///HOME, or one for HOLDFAST_STORAGE_URL.

    Raises:
        ConfigurationError: it names none; `option` is where it came from.

    """
    backend, _, path = url.partition("://")
    if backend in {"filetree", "disk"} and path.startswith("/"):
        return Directory(backend, Path(path))
    if backend_of(url) is None:
        what = "is not filetree:///HOME, disk:///HOME, or a URL as HOLDFAST_STORAGE_URL has it"
        raise ConfigurationError([Problem(option, what, "Name a store, as in filetree:///data")])
    return EngineLocation(url, quarantine)
