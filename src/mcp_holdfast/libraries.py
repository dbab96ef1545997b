"""How libraries are imported, which is most of what a start and a command cost."""

import gc
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

PROPAGATORS = "OTEL_PROPAGATORS"

NEW_OBJECTS_BEFORE_A_COLLECTION = 10_000
"""Python's own 700 would have hundreds of thousands of objects walked again and again that all stay."""

SPARED = {"PY_KEY_VALUE_DISABLE_BEARTYPE": "true", "FASTMCP_ENABLE_RICH_LOGGING": "false"}
"""Checks of types in all of py-key-value's functions, and a second way to log: nothing here needs either."""

FASTMCP = ("3.4.", "4.0.")
"""The releases of FastMCP that this one was tried on; others call and make things differently."""


@contextmanager
def importing_libraries() -> Iterator[None]:
    """Import what is big inside the block, and no warnings come of it.

    What libraries deprecate is news for their developers, not for who reads this server's log. Their hundreds of
    pydantic models are built as they are used, if they are: building takes a sixth of the time that importing takes.
    Nothing becomes garbage meanwhile, and nothing of it does later: the collector never walks what was imported.
    OpenTelemetry's API fails where OTEL_PROPAGATORS names what is not installed, before anybody could say so.

    Ends the process with exit status 78 where another FastMCP is installed, before that can fail in its own way.
    """
    gc.disable()
    gc.set_threshold(NEW_OBJECTS_BEFORE_A_COLLECTION)
    _refuse_other_releases(version("fastmcp-slim"))
    from pydantic import BaseModel

    for variable, value in SPARED.items():
        os.environ.setdefault(variable, value)
    propagators = os.environ.pop(PROPAGATORS, None)
    BaseModel.model_config["defer_build"] = True
    try:
        with warnings.catch_warnings(record=True):
            yield
    finally:
        BaseModel.model_config.pop("defer_build", None)
        gc.freeze()
        gc.enable()
        if propagators is not None:
            os.environ[PROPAGATORS] = propagators


def _refuse_other_releases(installed: str) -> None:
    if installed.startswith(FASTMCP):
        return
    # Not before: most that comes here needs none of it.
    from mcp_holdfast.settings import EXIT_CONFIG, ConfigurationError, Problem

    what = f"{installed} is installed, and this release of Holdfast was not tried on it"
    remedy = "Install the packages of constraints.txt (FastMCP 3.4) or of constraints-fastmcp4.txt (FastMCP 4.0)"
    sys.stderr.write(f"Holdfast cannot start:\n{ConfigurationError([Problem('FastMCP', what, remedy)])}\n")
    sys.exit(EXIT_CONFIG)
