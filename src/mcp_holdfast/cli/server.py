"""Start the server, or see whether it could be started."""

import asyncio
import logging.config
import os
import sys
from typing import Annotated

from cyclopts import Parameter

from mcp_holdfast import logs
from mcp_holdfast.cli.output import NOTHING, print_table
from mcp_holdfast.libraries import importing_libraries
from mcp_holdfast.settings import EXIT_CONFIG, ConfigurationError


def serve(*gunicorn_arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Start the server; arguments go to gunicorn."""
    from mcp_holdfast import serve as server

    server.main(gunicorn_arguments)


def check() -> None:
    """Check the configuration, start nothing: exit 0 if the server could start with it, else 78 and all problems.

    An identity provider that is asked at a start is asked; where it does not answer a server would wait for it.

    Prints every setting and every parameter of the identity provider as it works, secrets masked.
    """
    with importing_libraries():
        from mcp_holdfast.app import MCP_PATH, plan
        from mcp_holdfast.auth.providers import ProviderUnreachable
        from mcp_holdfast.key_checks import refuse_other_stores
        from mcp_holdfast.storage.locations import location_of

    # What it has to say it says itself; providers write while they are built.
    logging.config.dictConfig(logs.configuration("error", "text"))
    try:
        checked = plan(os.environ)
        asyncio.run(refuse_other_stores(checked.settings))
        if checked.provider is not None:
            checked.provider.try_to_build()
    except ProviderUnreachable as error:
        sys.stderr.write(f"A server would wait for the identity provider: {error}\n")
    except ConfigurationError as error:
        sys.stderr.write(f"Holdfast could not start:\n{error}\n")
        sys.exit(EXIT_CONFIG)
    for warning in checked.warnings():
        sys.stderr.write(f"{warning}\n")
    settings = checked.settings
    print(f"server   {checked.server}")
    print(f"login    {settings.provider}")
    print(f"clients  {len(settings.clients)} configured")
    for url in settings.base_urls:
        print(f"url      {url}{MCP_PATH}")
    location = location_of(settings)
    print(f"storage  {settings.backend}" + (f" in {location}" if location else ""))
    print()
    rows = [(value.variable, value.source, value.value or NOTHING) for value in checked.effective()]
    print_table(("variable", "from", "value"), rows)
