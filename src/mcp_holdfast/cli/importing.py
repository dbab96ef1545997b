"""Carry over what another server left."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mcp_holdfast.cli.beside import EXIT_USAGE, run_beside_server
from mcp_holdfast.cli.copying import copy_store
from mcp_holdfast.cli.output import plain, print_json, print_table
from mcp_holdfast.libraries import importing_libraries
from mcp_holdfast.settings import Settings, read_environment
from mcp_holdfast.storage.importers import Findings, SourceProblem, read_source
from mcp_holdfast.storage.importers.findings import read_bytes
from mcp_holdfast.storage.opening import OpenStore

with importing_libraries():
    from mcp_holdfast.auth.imported.importing import carry_over, check_login, family_of, secrets_of
    from mcp_holdfast.auth.imported.records import TakenOver
    from mcp_holdfast.auth.providers import provider_of

EXIT_NO_SOURCE = 66
"""EX_NOINPUT of sysexits.h."""

LARGEST_KEY = 65536


def import_(
    source: Annotated[
        Path | None, Parameter(help="the old server's database, state file or directory; it is only read")
    ] = None,
    /,
    *,
    from_: Annotated[
        str | None,
        Parameter("--from", help="or a store of Holdfast: filetree:///HOME, disk:///HOME, or an engine's URL"),
    ] = None,
    to: Annotated[str | None, Parameter(help="where to copy that store; otherwise the store of the settings")] = None,
    dry_run: Annotated[bool, Parameter(negative="", help="tell what would be carried over, and store nothing")] = False,
    key_file: Annotated[
        Path | None,
        Parameter(help="a file with what FastMCP derived its keys from, where that is not what is configured here"),
    ] = None,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> int:
    """Carry over registrations and sessions of another server, or a whole store, so that nobody signs in again."""
    if (source is None) == (from_ is None and to is None) or (source is None and key_file is not None):
        sys.stderr.write(
            "name what another server left, or a store with --from, --to or both; --key-file is for files\n"
        )
        return EXIT_USAGE
    if source is None:
        return copy_store(from_, to, dry_run=dry_run, as_json=as_json)
    return _import_from(source, key_file, dry_run=dry_run, as_json=as_json)


def _import_from(source: Path, key_file: Path | None, *, dry_run: bool, as_json: bool) -> int:
    async def work(settings: Settings, opened: OpenStore) -> int:
        provider = provider_of(settings, read_environment(os.environ)[0])
        try:
            findings = read_source(source, [*_secret_in(key_file), *secrets_of(provider)])
            check_login(findings, family_of(settings, provider))
        except SourceProblem as problem:
            sys.stderr.write(f"{plain(str(problem))}\n")
            return EXIT_NO_SOURCE
        taken_over = await carry_over(findings, opened.store, settings, dry_run=dry_run)
        (_print_json if as_json else _print)(findings, taken_over, dry_run=dry_run)
        return 0

    return run_beside_server(work)


def _secret_in(file: Path | None) -> Sequence[str]:
    if file is None:
        return []
    try:
        # The key itself may be a link, as orchestrators mount secrets.
        secret = read_bytes(file.resolve(), limit=LARGEST_KEY).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SourceProblem(f"--key-file {file} cannot be read: {reason}") from None
    if not secret:
        raise SourceProblem(f"--key-file {file} is empty")
    return [secret]


def _kinds(taken_over: TakenOver) -> list[str]:
    return sorted(taken_over.carried | taken_over.already)


def _print(findings: Findings, taken_over: TakenOver, *, dry_run: bool) -> None:
    print(plain(f"{findings.system}: {findings.path}"))
    rows = [(str(taken_over.carried[kind]), str(taken_over.already[kind]), kind) for kind in _kinds(taken_over)]
    print_table(("to carry over" if dry_run else "carried over", "already here", ""), rows)
    if findings.left:
        left = [(str(count), what, reason) for (what, reason), count in sorted(findings.left.items())]
        print_table(("left", "what", "why"), left)
    if dry_run:
        print("dry run: nothing was stored")
    elif findings.signing_key is not None:
        print("restart the server, which reads at its start what the old one's tokens are signed with")


def _print_json(findings: Findings, taken_over: TakenOver, *, dry_run: bool) -> None:
    print_json(
        {
            "system": findings.system,
            "source": str(findings.path),
            "dry_run": dry_run,
            "carried_over": {kind: taken_over.carried[kind] for kind in _kinds(taken_over)},
            "already_here": {kind: taken_over.already[kind] for kind in _kinds(taken_over)},
            "left": [
                {"what": what, "why": reason, "count": count} for (what, reason), count in sorted(findings.left.items())
            ],
        }
    )
