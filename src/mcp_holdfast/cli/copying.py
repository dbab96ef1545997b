"""Copy a store from one backend to another."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

from mcp_holdfast.cli.beside import run_on
from mcp_holdfast.cli.output import print_json
from mcp_holdfast.settings import ConfigurationError, Settings
from mcp_holdfast.storage.backends import open_memory
from mcp_holdfast.storage.copying import Copied, copy
from mcp_holdfast.storage.opening import TwoPlaces, open_two_places
from mcp_holdfast.storage.sealing import OTHER_KEY, sealed_with_another_key


def copy_store(source: str | None, target: str | None, *, dry_run: bool, as_json: bool) -> int:
    """Copy the store at one URL to another; one that is None is the store of the settings."""

    async def work(_: Settings, places: TwoPlaces) -> int:
        copied = Copied()
        backend = places.source.open()
        try:
            if dry_run:
                has_store = await places.target.has_store()
                there = places.target.open(may_create=False) if has_store else open_memory()
                async for copied in copy(backend, there, dry_run=True):
                    _tell(copied)
                await there.close()
            else:
                async with places.target.filled_again() as there:
                    async for copied in copy(backend, there):
                        _tell(copied)
        finally:
            await backend.close()
        if as_json:
            print_json({"from": str(places.source), "to": str(places.target), "dry_run": dry_run, **asdict(copied)})
        elif dry_run:
            print("dry run: nothing was stored")
        else:
            print("when the servers of the old place have ended, run this once more: what changed meanwhile follows;")
            print("then start servers at the new place with the same storage and signing keys")
        return 0

    return run_on(lambda settings: _open(settings, source, target), work)


@asynccontextmanager
async def _open(settings: Settings, source: str | None, target: str | None) -> AsyncIterator[TwoPlaces]:
    """Open both, and tell which of them has another key: only the source is looked at with it."""
    try:
        async with open_two_places(settings, source, target) as places:
            yield places
    except ConfigurationError as error:
        named = {OTHER_KEY: sealed_with_another_key("the source (the store to copy)")}
        raise ConfigurationError(named.get(problem, problem) for problem in error.problems) from error


def _tell(copied: Copied) -> None:
    sys.stderr.write(f"{copied.examined} records, {copied.copied} copied, {copied.deleted} deleted\n")
