"""Load the MCP server that Holdfast runs: exasol, demo, or any FastMCP server by FastMCP's own loader."""

import asyncio
import difflib
import importlib
import inspect
import json
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastmcp import FastMCP
from fastmcp.utilities.mcp_server_config.v1.mcp_server_config import MCPServerConfig
from fastmcp.utilities.mcp_server_config.v1.sources import filesystem
from pydantic import ValidationError

from mcp_holdfast.settings import ConfigurationError, Environment, Problem

log = logging.getLogger(__name__)

SELECTOR = "HOLDFAST_SERVER"
BUILT_IN = ("exasol", "demo")
FORMS = "Give exasol, demo, FILE.py, FILE.py:name, package.module:name or the path of a fastmcp.json"

StorageStatus = Callable[[], Awaitable[dict[str, Any]]]


def load_payload(server: str, environment: Environment, *, storage_status: StorageStatus) -> FastMCP:
    """Load the server that HOLDFAST_SERVER names. Whoever calls this sets its `auth`.

    Raises:
        ConfigurationError: with every problem that was found.

    """
    # Both are imported only where they are used: exasol takes seconds.
    if server == "demo":
        from mcp_holdfast.payload.demo import demo_server

        return demo_server(storage_status)
    if server == "exasol":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about exasol's own classes; nobody here can heed them
                from mcp_holdfast.payload.exasol import exasol_server
        except ImportError as error:
            remedy = "Use the image holdfast (holdfast:base has no exasol), install it, or name another server"
            raise _problem(f"exasol cannot be imported: {error}", remedy) from None
        return exasol_server(environment)
    return _checked(_load(server), server)


def _load(server: str) -> Any:
    if server.endswith(".json"):
        return _load_config(Path(server))
    if re.search(r"\.py(:\w+)?$", server):
        return _load_file(filesystem.FileSystemSource(path=server))
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", server):
        return _load_module(*server.split(":"))
    nearest = difflib.get_close_matches(server, BUILT_IN, n=1)
    raise _problem(f"{server} is no server that Holdfast knows", f"Did you mean {nearest[0]}?" if nearest else FORMS)


def _checked(loaded: Any, server: str) -> FastMCP:
    if isinstance(loaded, FastMCP):
        return loaded
    what = f"{server} is not a FastMCP server but an object of {type(loaded).__module__}.{type(loaded).__qualname__}"
    raise _problem(what, "Name a variable that holds a fastmcp.FastMCP, or a function that returns one")


def _load_config(path: Path) -> Any:
    try:
        config = MCPServerConfig.from_file(path)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _problem(f"{path} is not valid JSON: {error}", "Correct the file") from None
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, detail["loc"]))
        raise _problem(f"{path} is wrong at {where}: {detail['msg']}", "Correct the file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise _problem(f"cannot read {path}: {error}", "Mount the file there, readable by this user") from None
    try:
        config.deployment.apply_runtime_settings(path)
    except OSError as error:
        raise _problem(f"{path} asks for a working directory that cannot be used: {error}", "Correct cwd") from None
    return _load_file(config.source)


def _load_file(source: filesystem.FileSystemSource) -> Any:
    with _import_problems(source.path), _reasons_of_exit(filesystem.logger) as reasons:
        try:
            return _run(source.load_server())
        except SystemExit:
            reason = (
                reasons[0].splitlines()[0].removesuffix(". Please either:")
                if reasons
                else f"{source.path} exits when it is imported"
            )
            raise _problem(reason, "Correct it, or give another FILE.py or FILE.py:name") from None


@contextmanager
def _reasons_of_exit(logger: logging.Logger) -> Iterator[list[str]]:
    """Collect, instead of showing, the errors that FastMCP's loader logs before it exits."""
    reasons: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return True
        reasons.append(record.getMessage())
        return False

    logger.addFilter(collect)
    try:
        yield reasons
    finally:
        logger.removeFilter(collect)


def _load_module(module_name: str, name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with _import_problems(module_name):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            raise _problem(f"there is no module {error.name}", "Install it, or correct its name") from None
        if not hasattr(module, name):
            raise _problem(f"module {module_name} has no {name}", "Correct the name after the colon")
        loaded = getattr(module, name)
        if not inspect.isfunction(loaded):
            return loaded
        made = loaded()
        return _run(made) if inspect.iscoroutine(made) else made


@contextmanager
def _import_problems(source: str) -> Iterator[None]:
    """Turn whatever the server's own code raises into a problem; the traceback is shown when debugging."""
    try:
        yield
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        log.debug("loading %s failed", source, exc_info=True)
        frame = traceback.extract_tb(error.__traceback__)[-1]
        what = f"loading {source} fails: {type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
        raise _problem(what, "Correct it; LOG_LEVEL=debug shows the traceback") from None


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, whether or not the caller is inside an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, work).result()


def _problem(what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError([Problem(SELECTOR, what, remedy)])
