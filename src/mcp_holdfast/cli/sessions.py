"""See who is signed in with which client, and end sessions."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from mcp_holdfast.auth.sessions import Session, Sessions
from mcp_holdfast.cli.beside import EXIT_NOTHING_FOUND, EXIT_STORE_FAILED, EXIT_USAGE, run_beside_server
from mcp_holdfast.cli.output import iso, print_json, print_table, short, when
from mcp_holdfast.settings import Settings
from mcp_holdfast.storage.atomic import LeaseBusy, Leases
from mcp_holdfast.storage.opening import OpenStore

SHOWN = 12
"""How many characters of a session's identifier are shown; any that no other session begins with will do."""

SHORTEST = 8

SESSION_HEAD = ("session", "user", "created (UTC)", "refreshed (UTC)", "expires (UTC)", "client id", "host", "client")

Json = Annotated[bool, Parameter("--json", negative="", help="for programs: everything, with times in ISO 8601")]
Client = Annotated[str | None, Parameter(help="of this client id")]
User = Annotated[str | None, Parameter(help="of this user, as 'holdfast sessions' names them")]
Found = tuple[str, Session]


def sessions(*, client: Client = None, user: User = None, as_json: Json = False) -> int:
    """List who is signed in with which client, and until when."""

    async def work(settings: Settings, opened: OpenStore) -> int:
        found = await find(sessions_in(opened, settings), client=client, user=user)
        if as_json:
            print_json([_session_fields(identifier, session) for identifier, session in found])
        else:
            _print_sessions(found)
        return 0

    return run_beside_server(work)


def revoke(
    session: Annotated[str, Parameter(help=f"the first characters of a session, {SHORTEST} or more")] = "",
    /,
    *,
    client: Client = None,
    user: User = None,
    everyone: Annotated[bool, Parameter("--all", negative="", help="every session; needs --yes")] = False,
    yes: Annotated[bool, Parameter(negative="", help="everybody is to sign in again")] = False,
    as_json: Json = False,
) -> int:
    """End sessions: their tokens are refused from now on, and whoever had one has to sign in again."""
    if problem := _usage_problem(session, client, user, everyone=everyone, yes=yes):
        sys.stderr.write(f"{problem}\n")
        return EXIT_USAGE

    async def work(settings: Settings, opened: OpenStore) -> int:
        known = sessions_in(opened, settings)
        found = await find(known, beginning=session, client=client, user=user)
        if session and len(found) > 1:
            sys.stderr.write(f"{len(found)} sessions begin with that; give more characters\n")
            return EXIT_USAGE
        if not found:
            sys.stderr.write("There is no such session\n")
            return EXIT_NOTHING_FOUND
        revoked, busy = await _revoke(known, found)
        _tell_what_was_revoked(revoked, settings, as_json=as_json)
        for identifier in busy:
            sys.stderr.write(f"{identifier[:SHOWN]} is being refreshed, for unusually long; try again\n")
        return EXIT_STORE_FAILED if busy else 0

    return run_beside_server(work)


def _usage_problem(session: str, client: str | None, user: str | None, *, everyone: bool, yes: bool) -> str:
    ways = [bool(session), client is not None, user is not None, everyone]
    if sum(ways) != 1:
        return "Name what to revoke in one way: SESSION, --client CLIENT_ID, --user USER, or --all --yes"
    if session and len(session) < SHORTEST:
        return f"Give at least the first {SHORTEST} characters of the session, as 'holdfast sessions' shows them"
    if everyone and not yes:
        return "--all ends every session, and everybody has to sign in again; if that is meant, add --yes"
    return ""


def sessions_in(opened: OpenStore, settings: Settings) -> Sessions:
    return Sessions(opened.store, Leases(opened.store, lifetime=settings.lease))


async def find(
    known: Sessions, *, beginning: str = "", client: str | None = None, user: str | None = None
) -> list[Found]:
    """The sessions that are asked for, the oldest first."""
    found = [
        (identifier, session)
        async for identifier, session in known.all()
        if identifier.startswith(beginning) and client in {None, session.client_id} and user in {None, session.subject}
    ]
    return sorted(found, key=lambda one: one[1].created_at)


async def _revoke(known: Sessions, chosen: Sequence[Found]) -> tuple[list[Found], list[str]]:
    """End sessions: those that were ended, and the identifiers of those that cannot be ended now."""
    revoked, busy = list[Found](), list[str]()
    for identifier, session in chosen:
        try:
            if await known.revoke(identifier, "revoked_by_operator"):
                revoked.append((identifier, session))
        except LeaseBusy:
            busy.append(identifier)
    return revoked, busy


def _session_fields(identifier: str, session: Session) -> dict[str, Any]:
    return {
        "session": identifier,
        "user": session.subject,
        "client_id": session.client_id,
        "client_name": session.client_name,
        "redirect_host": session.redirect_host,
        "created_at": iso(session.created_at),
        "refreshed_at": iso(session.refreshed_at),
        "expires_at": iso(session.expires_at),
    }


def _print_sessions(found: Sequence[Found]) -> None:
    rows = [
        (
            identifier[:SHOWN],
            short(session.subject),
            when(session.created_at),
            when(session.refreshed_at),
            when(session.expires_at, otherwise="never"),
            session.client_id,
            short(session.redirect_host),
            short(session.client_name),
        )
        for identifier, session in found
    ]
    print_table(SESSION_HEAD, rows)


def _tell_what_was_revoked(revoked: Sequence[Found], settings: Settings, *, as_json: bool) -> None:
    if as_json:
        fields = [_session_fields(identifier, session) for identifier, session in revoked]
        print_json({"revoked": fields, "refused_within_seconds": settings.token_cache})
        return
    _print_sessions(revoked)
    print(f"revoked {len(revoked)}; running servers refuse their tokens within {settings.token_cache} s")
    if settings.provider != "local":
        print("the identity provider was not told: what it issued lives on there until it expires or is revoked there")
