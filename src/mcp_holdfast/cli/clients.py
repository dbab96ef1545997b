"""See which clients there are, and hash the secrets of those that are configured."""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cyclopts import App
from pydantic import AnyUrl, ValidationError

from mcp_holdfast.auth.argon2 import hashed
from mcp_holdfast.auth.registrations import REGISTRATIONS, Registration, host_of
from mcp_holdfast.cli.beside import EXIT_USAGE, run_beside_server
from mcp_holdfast.cli.output import iso, print_json, print_table, short, when
from mcp_holdfast.cli.sessions import Found, Json, find, sessions_in
from mcp_holdfast.settings import ClientSettings, Settings
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.opening import OpenStore

HEAD = ("client id", "sessions", "registered (UTC)", "hosts", "client")
SHORTEST_SECRET = 20
LONGEST_SECRET = 1024

clients = App(name="clients")


@clients.default
def list_clients(*, as_json: Json = False) -> int:
    """List the clients that registered or are configured, and how many sessions each has."""

    async def work(settings: Settings, opened: OpenStore) -> int:
        registrations = {client_id: found async for client_id, found in _registrations(opened.store)}
        found = await find(sessions_in(opened, settings))
        known = _known_clients(settings.clients, registrations, found)
        if as_json:
            print_json([client.fields() for client in known])
        else:
            print_table(HEAD, [client.row() for client in known])
        return 0

    return run_beside_server(work)


@clients.command(name="hash")
def hash_secret() -> int:
    """Read a client's secret from standard input and print the hash of it, for HOLDFAST_CLIENTS."""
    secret = sys.stdin.read(LONGEST_SECRET + 2).removesuffix("\n").removesuffix("\r")
    if not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET or not all(" " <= letter <= "~" for letter in secret):
        sys.stderr.write(
            f"Give a secret of {SHORTEST_SECRET} to {LONGEST_SECRET} letters, digits and signs of ASCII on standard "
            "input; one is made with: openssl rand -base64 32\n"
        )
        return EXIT_USAGE
    print(hashed(secret))
    return 0


async def _registrations(store: AtomicStore) -> AsyncIterator[tuple[str, Registration]]:
    async for client_id, entry in store.entries(REGISTRATIONS):
        try:
            yield client_id, Registration.model_validate(entry.value_as_dict)
        except ValidationError:
            continue


@dataclass(frozen=True)
class KnownClient:
    """A client that is configured, that registered, or that has sessions without: those whose id is a URL need neither.

    `registered_at` is in seconds since the epoch. An unused one has never completed a sign-in and will expire.
    """

    client_id: str
    name: str | None
    hosts: list[str]
    registered_at: float | None
    used: bool
    sessions: int
    configured: bool = False

    def fields(self) -> dict[str, Any]:
        return {
            "client_id": self.client_id,
            "client_name": self.name,
            "redirect_hosts": self.hosts,
            "registered_at": iso(self.registered_at),
            "used": self.used,
            "sessions": self.sessions,
            "configured": self.configured,
        }

    def row(self) -> tuple[str, ...]:
        sessions = str(self.sessions) if self.used or self.configured else "never used"
        since = "configured" if self.configured else when(self.registered_at)
        return self.client_id, sessions, since, short(", ".join(self.hosts)), short(self.name)


def _known_clients(
    configured: Mapping[str, ClientSettings], registrations: Mapping[str, Registration], found: Sequence[Found]
) -> list[KnownClient]:
    counts = Counter(session.client_id for _, session in found)
    known = [
        KnownClient(
            identifier,
            one.client_name,
            _hosts(one.redirect_uris),
            None,
            counts[identifier] > 0,
            counts[identifier],
            True,
        )
        for identifier, one in sorted(configured.items())
    ]
    known += [
        KnownClient(identifier, one.client_name, one.redirect_hosts, one.registered_at, one.used, counts[identifier])
        for identifier, one in sorted(registrations.items(), key=lambda item: item[1].registered_at)
        if identifier not in configured
    ]
    listed = {client.client_id for client in known}
    others = {session.client_id: session for _, session in found if session.client_id not in listed}
    for identifier, one in others.items():
        hosts = [one.redirect_host] if one.redirect_host else []
        known.append(KnownClient(identifier, one.client_name, hosts, None, True, counts[identifier]))
    return known


def _hosts(uris: Sequence[AnyUrl]) -> list[str]:
    return sorted({host_of(uri) for uri in uris})
