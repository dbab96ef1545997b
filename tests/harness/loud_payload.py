"""A payload that turns every logger up, as a developer does who looks for something, and writes down what it is given.

SEEN names the file for the tokens of the identity provider that payloads are handed.
"""

import logging
import logging.config
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.dependencies import get_access_token

configure = logging.config.dictConfig


def configure_loudly(configuration: Mapping[str, Any]) -> None:
    configure(dict(configuration))
    for name in [None, *logging.root.manager.loggerDict]:
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.disabled = False


logging.config.dictConfig = configure_loudly  # type: ignore[assignment]
mcp = FastMCP("Loud")


@mcp.tool
def look() -> str:
    """Write down the token of this call."""
    token = get_access_token()
    if token is not None and "SEEN" in os.environ:
        with Path(os.environ["SEEN"]).open("a") as seen:
            seen.write(f"{token.token}\n")
    return "looked"
