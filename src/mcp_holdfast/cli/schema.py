"""Print what an engine needs before a server may use it with no rights of its own to make it."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from mcp_holdfast.cli.beside import EXIT_USAGE


def schema(
    engine: Literal["postgresql"],
    /,
    *,
    table: Annotated[str, Parameter(help="the table's name, as the URL's parameter of that name says")] = "",
) -> int:
    """Print the SQL that makes the table, for a DBA to run; it may be run again."""
    from mcp_holdfast.storage.backends.engine import EngineProblem
    from mcp_holdfast.storage.backends.postgresql import TABLE
    from mcp_holdfast.storage.backends.postgresql import schema as schema_of

    try:
        print(schema_of(table or TABLE), end="")
    except EngineProblem as error:
        sys.stderr.write(f"--table {table}: {error}\n")
        return EXIT_USAGE
    return 0
