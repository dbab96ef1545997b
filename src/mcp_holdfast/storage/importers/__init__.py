"""Read other systems' state, each in a file of its own, and change nothing of it.

`read_source` tells by the files themselves which system wrote them.
"""

from collections.abc import Sequence
from pathlib import Path

from mcp_holdfast.storage.importers import memory_service, otterwiki
from mcp_holdfast.storage.importers.fastmcp import fingerprints_of
from mcp_holdfast.storage.importers.fastmcp_disk import DATABASE, is_disk, read_disk
from mcp_holdfast.storage.importers.fastmcp_disk import TABLES as FASTMCP_TABLES
from mcp_holdfast.storage.importers.fastmcp_tree import is_tree, read_tree, trees_in
from mcp_holdfast.storage.importers.findings import (
    ACCESS_TOKENS,
    REFRESH_TOKENS,
    REGISTRATIONS,
    Family,
    Findings,
    Record,
    SourceProblem,
)
from mcp_holdfast.storage.importers.sqlite_source import has_sqlite_header, private_copy, table_names
from mcp_holdfast.storage.importers.vault_mcp import read_state_file
from mcp_holdfast.storage.sealing import HOLDFAST_COLLECTION

__all__ = [
    "ACCESS_TOKENS",
    "REFRESH_TOKENS",
    "REGISTRATIONS",
    "Family",
    "Findings",
    "Record",
    "SourceProblem",
    "fingerprints_of",
    "read_source",
    "sources_in",
]

FASTMCP_DIRECTORY = "oauth-proxy"


def read_source(path: Path, secrets: Sequence[str] = ()) -> Findings:
    """Read what a system left in a file or directory; `secrets` are what FastMCP may have derived its keys from.

    Raises:
        SourceProblem: it is of no known system, of several, cannot be read, or needs another secret.

    """
    try:
        sources = _candidates(path)
        chosen = _chosen(path, sources, secrets)
        findings = _read(chosen, secrets)
    except FileNotFoundError as error:
        raise SourceProblem(f"{error.filename or path} does not exist") from None
    except OSError as error:
        remedy = "Make it readable for the user who runs this"
        raise SourceProblem(f"{error.filename or path} cannot be read: {error.strerror}. {remedy}") from None
    findings.leave("stores beside this one", "encrypted with another key", len(sources) - 1)
    return findings


def sources_in(directory: Path) -> list[Path]:
    """FastMCP's stores in a directory: the database of 2.14, and each tree of 3 and 4.

    Raises:
        OSError: it cannot be listed.

    """
    if not directory.is_dir():
        return []
    database = directory / DATABASE
    return [*([database] if database.exists() else []), *trees_in(directory)]


def _candidates(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (path / FASTMCP_DIRECTORY).is_dir():
        path = path / FASTMCP_DIRECTORY
    if found := sources_in(path):
        return found
    if (path / HOLDFAST_COLLECTION).exists():
        raise SourceProblem(f"{path} is a store of Holdfast, which needs no import: give its volume to the new server")
    if not is_tree(path):
        raise SourceProblem(f"{path} holds nothing of a system that is known here. Name its database or directory")
    return [path]


def _chosen(path: Path, sources: Sequence[Path], secrets: Sequence[str]) -> Path:
    """The only source, or the only one that is encrypted with a key that comes from the secrets."""
    if len(sources) == 1:
        return sources[0]
    fingerprints = fingerprints_of(secrets)
    fitting = [source for source in sources if source.name in fingerprints]
    if len(fitting) != 1 or any(is_disk(source) for source in sources):
        raise SourceProblem(f"{path} holds several stores. Name one of them: {', '.join(map(str, sources))}")
    return fitting[0]


def _read(path: Path, secrets: Sequence[str]) -> Findings:
    if path.is_dir():
        return read_tree(path, secrets)
    path = path.resolve(strict=True)
    if not has_sqlite_header(path) and not is_disk(path):
        return read_state_file(path)
    with private_copy(path) as copy:
        tables = table_names(copy)
    if tables >= memory_service.TABLES:
        return memory_service.read_database(path)
    if tables >= otterwiki.TABLES:
        return otterwiki.read_database(path)
    if tables and not tables >= FASTMCP_TABLES:
        raise SourceProblem(f"{path} is a SQLite database, but of no system that is known here")
    findings = read_disk(path, secrets)
    if not tables and not findings.records:
        raise SourceProblem(f"{path} is empty, or damaged so much that nothing in it can be read")
    return findings
