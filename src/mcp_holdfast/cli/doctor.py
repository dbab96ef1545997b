"""Look at everything that a server depends on, where it is to run."""

import asyncio
import logging.config
import os
import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from mcp_holdfast import logs
from mcp_holdfast.cli.output import print_json, print_table
from mcp_holdfast.libraries import importing_libraries
from mcp_holdfast.settings import EXIT_CONFIG, ConfigurationError, Settings, load_settings, read_environment
from mcp_holdfast.settings.engine_urls import ENGINES
from mcp_holdfast.storage.locations import location_of

with importing_libraries():
    from mcp_holdfast.app import MCP_PATH, plan
    from mcp_holdfast.examination import (
        Answers,
        Finding,
        Verdict,
        examine_engine,
        examine_keys,
        examine_machine,
        examine_provider,
        examine_public_urls,
        examine_volume,
        of_problem,
        within,
    )
    from mcp_holdfast.fastmcp_line import httpx
    from mcp_holdfast.key_checks import refuse_other_stores

EXIT_PROBLEM = 1
VOLUME_ANSWERS_WITHIN = 20.0
HTTP_ANSWERS_WITHIN = 10.0
NETWORK_ANSWERS_WITHIN = 45.0
"""In seconds."""

DRIPS = "See what is there: it takes a connection, and then too long to answer"

HANGS = "Bring its server back, or let this machine reach it (port 2049 for NFS)"


def doctor(*, as_json: Annotated[bool, Parameter("--json", negative="")] = False) -> None:
    """Tell what a server would find here: user, limits, volume or engine, clocks, keys, identity provider, public URL.

    Stores nothing. Exit 0 if there is no problem, 78 if the server would not start, else 1.
    """
    os.umask(0o077)
    status, findings = asyncio.run(_examine())
    if as_json:
        told = [
            {"subject": found.subject, "verdict": found.verdict, "found": found.what, "remedy": found.remedy or None}
            for found in findings
        ]
        print_json({"status": status, "findings": told})
    else:
        rows = [(found.verdict, found.subject, found.what) for found in findings]
        print_table(("verdict", "subject", "found"), rows)
        for found in findings:
            if found.remedy:
                print(f"{found.subject}: {found.remedy}")
    sys.stdout.flush()
    # A thread that a volume keeps waiting would be waited for.
    os._exit(status)


async def _examine() -> tuple[int, Sequence[Finding]]:
    """Return the exit status, and what was found until there was no point in going on."""
    environment, _ = read_environment(os.environ)
    settings, _ = load_settings(environment)
    logging.config.dictConfig(logs.configuration("error", settings.log_format))
    findings = [*examine_machine(settings.workers), *await _examine_place(settings)]
    if _has_problem(findings):
        return EXIT_CONFIG, findings
    try:
        checked = plan(os.environ)
        await refuse_other_stores(settings)
    except ConfigurationError as error:
        return EXIT_CONFIG, [*findings, *map(of_problem, error.problems)]
    findings.append(examine_keys(settings))
    with httpx.Client(timeout=HTTP_ANSWERS_WITHIN) as http:
        answers = Answers(http)
        findings += await within(
            NETWORK_ANSWERS_WITHIN, "identity provider", lambda: [*examine_provider(checked.provider, answers)], DRIPS
        )
        findings += await within(
            NETWORK_ANSWERS_WITHIN, "public URL", lambda: [*examine_public_urls(settings, MCP_PATH, answers)], DRIPS
        )
    return EXIT_PROBLEM if _has_problem(findings) else 0, findings


async def _examine_place(settings: Settings) -> Sequence[Finding]:
    if settings.backend == "memory":
        return []
    if settings.backend not in ENGINES:
        return await within(
            VOLUME_ANSWERS_WITHIN, "volume", lambda: examine_volume(settings.home, settings.backend), HANGS
        )
    location = location_of(settings)
    return [] if location is None else await examine_engine(location)


def _has_problem(findings: Sequence[Finding]) -> bool:
    return any(found.verdict is Verdict.PROBLEM for found in findings)
