"""Run a command on the store of the server that has the same environment, beside that server."""

import asyncio
import logging.config
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from mcp_holdfast import logs
from mcp_holdfast.settings import EXIT_CONFIG, ConfigurationError, Settings, load_settings, read_environment
from mcp_holdfast.storage.atomic import LeaseBusy
from mcp_holdfast.storage.locations import STORE_ERRORS
from mcp_holdfast.storage.opening import EmptyStore, OpenSealedStore, open_beside_server, open_empty

EXIT_NOTHING_FOUND = 1
EXIT_USAGE = 2
EXIT_STORE_FAILED = 74
"""EX_IOERR of sysexits.h."""

Opened = TypeVar("Opened")
Open = Callable[[Settings], AbstractAsyncContextManager[Opened]]
Work = Callable[[Settings, Opened], Awaitable[int]]


def run_beside_server(work: Work[OpenSealedStore]) -> int:
    """Do some work on the store; returns its exit status, or the one of why it could not be done, having said so."""
    return run_on(open_beside_server, work)


def run_before_server(work: Work[EmptyStore]) -> int:
    """The same where no server has begun a store."""
    return run_on(open_empty, work)


def run_on(open_store: Open[Opened], work: Work[Opened]) -> int:
    """The same on whatever is opened."""
    # Not every shell in the container has what entrypoint.sh sets.
    os.umask(0o077)
    try:
        settings = _settings()
        # What the command has to say, it says itself.
        logging.config.dictConfig(logs.configuration("error", settings.log_format, audits=settings.audit_log))
        return asyncio.run(_work_on_the_store(open_store, work, settings))
    except ConfigurationError as error:
        sys.stderr.write(f"Holdfast cannot open the server's store:\n{error}\n")
        return EXIT_CONFIG
    except (*STORE_ERRORS, LeaseBusy) as error:
        sys.stderr.write(f"The store failed, and some of it may not have been done: {error!r}\n")
        return EXIT_STORE_FAILED


def _settings() -> Settings:
    environment, problems = read_environment(os.environ)
    settings, more = load_settings(environment)
    if problems or more:
        raise ConfigurationError([*problems, *more])
    return settings


async def _work_on_the_store(open_store: Open[Opened], work: Work[Opened], settings: Settings) -> int:
    async with open_store(settings) as opened:
        return await work(settings, opened)
