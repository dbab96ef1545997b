"""Make bearer tokens for machines, see which there are, and revoke them."""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import App, Parameter

from mcp_holdfast.auth.machine_tokens import SETTING, Revocations, hash_of, made_up_token
from mcp_holdfast.cli.beside import EXIT_NOTHING_FOUND, EXIT_USAGE, run_beside_server
from mcp_holdfast.cli.output import iso, print_json, print_table, when
from mcp_holdfast.cli.sessions import Json
from mcp_holdfast.settings import NEVER, Settings, TokenSettings, check_name, check_scope, parse_duration
from mcp_holdfast.storage.opening import OpenStore

HEAD = ("token", "state", "expires (UTC)", "scope")
LONGEST = 10 * 365 * 86400
"""In seconds."""


tokens = App(name="tokens")
Name = Annotated[str, Parameter(help="what it is called in the list and by payloads, as in ci")]


@tokens.default
def list_tokens(*, as_json: Json = False) -> int:
    """List the tokens that are configured, and whether they are still good."""

    async def work(settings: Settings, opened: OpenStore) -> int:
        revocations = Revocations(opened.store)
        found = [
            (name, entry, _state(entry, is_revoked=await revocations.has(entry)))
            for name, entry in sorted(settings.tokens.items())
        ]
        if as_json:
            print_json([_fields(*one) for one in found])
        else:
            rows = [
                (name, state, when(entry.expiry, otherwise=NEVER), entry.scope or "as needed")
                for name, entry, state in found
            ]
            print_table(HEAD, rows)
        return 0

    return run_beside_server(work)


@tokens.command
def create(
    name: Name,
    /,
    *,
    expires: Annotated[str, Parameter(help="for how long it is good, as in 90d, or never")] = "90d",
    scope: Annotated[str | None, Parameter(help="its scopes, separated by spaces; else what every call needs")] = None,
    as_json: Json = False,
) -> int:
    """Make a token, and print it once together with its entry for HOLDFAST_TOKENS; nothing is stored."""
    token = made_up_token()
    entry = {"token_hash": hash_of(token)}
    option = "NAME"
    try:
        check_name(name)
        option = "--expires"
        entry["expires_at"] = NEVER if expires == NEVER else _moment_in(expires)
        option = "--scope"
        if scope is not None:
            entry["scope"] = check_scope(scope)
    except ValueError as error:
        sys.stderr.write(f"{option} {error}\n")
        return EXIT_USAGE
    if as_json:
        print_json({"token": token, "entry": {name: entry}})
        return 0
    print(f"token  {token}")
    print(f"entry  {json.dumps({name: entry})}")
    sys.stderr.write(
        f"Give the token to the machine: it is shown only now. Put the entry into {SETTING}, or into the file that "
        f"{SETTING}_FILE names, and start the server again.\n"
    )
    return 0


@tokens.command
def revoke(name: Name, /) -> int:
    """Revoke a token on all replicas, for good; its entry can be removed at the next start."""

    async def work(settings: Settings, opened: OpenStore) -> int:
        entry = settings.tokens.get(name)
        if entry is None:
            sys.stderr.write(f"There is no such token in {SETTING}\n")
            return EXIT_NOTHING_FOUND
        await Revocations(opened.store).add(name, entry)
        print(f"revoked; running servers refuse it within {settings.token_cache} s. Remove {name} from {SETTING}")
        return 0

    return run_beside_server(work)


def _moment_in(duration: str) -> str:
    """When a duration from now is over, as in an entry.

    Raises:
        ValueError: it is none, or too long.

    """
    seconds = parse_duration(duration)
    if not 1 <= seconds <= LONGEST:
        raise ValueError("is not between a second and ten years; write never for longer")
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def _state(entry: TokenSettings, *, is_revoked: bool) -> str:
    if is_revoked:
        return "revoked"
    return "expired" if entry.expiry is not None and entry.expiry <= time.time() else "good"


def _fields(name: str, entry: TokenSettings, state: str) -> dict[str, Any]:
    return {
        "token": name,
        "state": state,
        "expires_at": iso(entry.expiry),
        "scope": entry.scope,
        "claims": entry.claims,
    }
