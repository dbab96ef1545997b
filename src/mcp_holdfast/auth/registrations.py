"""What clients may register: where their codes may be sent, and how many registrations that nobody uses are kept.

Whoever reaches the port may register a client (RFC 7591, section 3). So a registration lives for a day, unless its
client completes a sign-in: then it is kept for good, since clients go on using a client_id that they were given.
"""

import hashlib
import ipaddress
import json
import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from key_value.aio.adapters.pydantic import PydanticAdapter
from pydantic import AnyUrl, BaseModel, ValidationError

from mcp_holdfast import outage
from mcp_holdfast.settings import without_credentials
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.journal import Place, apply_deletes

log = logging.getLogger(__name__)

LOOPBACK_PATTERNS = ("http://localhost", "http://127.0.0.1", "http://[::1]")
"""FastMCP takes a loopback pattern without port and path for every port and path (RFC 8252, section 7.3)."""

WELL_KNOWN_CALLBACKS = (
    "https://claude.ai/api/mcp/auth_callback",
    "https://claude.com/api/mcp/auth_callback",
    "claude://claude.ai/mcp-auth-callback/sdk",
    "https://chatgpt.com/connector_platform_oauth_redirect",
    "https://chatgpt.com/connector/oauth/*",
    "https://vscode.dev/redirect",
    "https://insiders.vscode.dev/redirect",
    "cursor://anysphere.cursor-mcp/oauth/callback",
    "cursor://anysphere.cursor-retrieval/oauth/*",
    "https://www.cursor.com/agents/mcp/oauth/callback",
)
"""Where Claude, ChatGPT, VS Code and Cursor receive codes. VS Code and Cursor register all of theirs at once."""

REGISTRATIONS = "holdfast_registrations"
SLOTS = "holdfast_registration_slots"
FATES = "holdfast_registration_fates"
ANSWERS = "holdfast_registration_answers"

LIFETIME = 86400
MOST_UNUSED = 10_000
SLOTS_TO_TRY = 5
DROPPING_TAKES = 60.0
"""In seconds, at most: for so long a client that is being dropped cannot be kept instead."""

MOST_REMEMBERED = 10_000

Fate = Literal["kept", "dropped"]
KEPT: Final = "kept"
DROPPED: Final = "dropped"


@dataclass(frozen=True)
class RedirectAllowList:
    """Where codes may be sent; `setting` is the variable in which the patterns can be changed."""

    patterns: tuple[str, ...] = (*LOOPBACK_PATTERNS, *WELL_KNOWN_CALLBACKS)
    setting: str = "HOLDFAST_REDIRECT_URIS"

    def and_also(self, patterns: Iterable[str]) -> "RedirectAllowList":
        return RedirectAllowList((*self.patterns, *patterns), self.setting)

    def allows(self, uri: AnyUrl) -> bool:
        """Whether a URI matches a pattern, by the rules that FastMCP's proxies apply at /authorize."""
        # Not above: commands beside a server read registrations, too, and FastMCP takes a second to be imported.
        from fastmcp.server.auth.redirect_validation import validate_redirect_uri

        return validate_redirect_uri(uri, list(self.patterns))

    def refusal(self, uri: AnyUrl) -> str:
        """What to tell the client, and so the person who reads its log."""
        shown = without_credentials(str(uri))[:200]
        return f"{shown} is no allowed redirect URI; whoever runs this server can add it to {self.setting}"


DEFAULT_ALLOW_LIST = RedirectAllowList()
LOOPBACK = RedirectAllowList(LOOPBACK_PATTERNS)


class RegistrationDropped(Exception):
    """The client was dropped while it completed its first sign-in; it has to register again."""


class Registration(BaseModel):
    """A client that registered. Times are in seconds since the epoch.

    `places` are the provider's records of it. Until the client was `used` it occupies a `slot` and will expire.
    """

    places: list[Place]
    client_name: str | None = None
    redirect_hosts: list[str] = []
    registered_at: float
    slot: int | None = None
    used: bool = False


def host_of(uri: AnyUrl) -> str:
    return uri.host or f"{uri.scheme}:"


class Slot(BaseModel):
    """One of the places for unused clients, and all records to delete when another client takes it over."""

    client_id: str
    registered_at: float
    records: list[Place]


class RecordedAnswer(BaseModel):
    """The answer to a registration without a secret in it: its client, headers and body."""

    client_id: str
    headers: list[tuple[str, str]]
    body: str


class Documents(Protocol):
    """What is told of clients whose client_id is the URL of a document."""

    async def keep(self, client_id: str) -> None:
        """Keep the document from now on: its client completed a sign-in."""


class Clients(Protocol):
    """What is needed of a provider."""

    async def get_client(self, client_id: str) -> object | None:
        """Find a client that registered, by whatever means."""


class Registrations:
    """Keeps the clients that were used, and of the others only so many and only for so long.

    An unused client occupies one of a fixed number of slots, so nothing has to be counted, and no sweeper has to run
    for the store to stay bounded: who takes a slot over deletes all that its last holder left. Of a few slots chosen
    by chance the oldest is taken over, so that a flood hardly ever meets a client whose user is just signing in.

    Whether a client is kept or dropped, and for whom, is decided by who adds the record of its fate first.
    """

    def __init__(
        self,
        store: AtomicStore,
        *,
        clients: Clients,
        documents: Documents | None = None,
        lifetime: float = LIFETIME,
        most_unused: int = MOST_UNUSED,
    ) -> None:
        """`store` is below the journal, `clients` is the provider; `lifetime`, in seconds, is that of unused ones."""
        self.lifetime = lifetime
        self._store = store
        self._clients = clients
        self._documents = documents
        self._most_unused = most_unused
        self._kept: set[str] = set()
        self._registrations: PydanticAdapter[Registration] = PydanticAdapter(
            key_value=store,
            pydantic_model=Registration,
            default_collection=REGISTRATIONS,
            raise_on_validation_error=False,
        )
        self._slots: PydanticAdapter[Slot] = PydanticAdapter(
            key_value=store, pydantic_model=Slot, default_collection=SLOTS, raise_on_validation_error=False
        )
        self._answers: PydanticAdapter[RecordedAnswer] = PydanticAdapter(
            key_value=store, pydantic_model=RecordedAnswer, default_collection=ANSWERS, raise_on_validation_error=False
        )

    async def get(self, client_id: str) -> Registration | None:
        return await self._registrations.get(client_id)

    async def remember(self, client_id: str, registration: Registration, *, fingerprint: str | None = None) -> None:
        """Note a client that the provider stored, with an expiry; make room for it where there is none."""
        records = [*registration.places, (REGISTRATIONS, client_id)]
        if fingerprint is not None:
            records.append((ANSWERS, fingerprint))
        slot = Slot(client_id=client_id, registered_at=registration.registered_at, records=records)
        number = await self._occupy(slot)
        await self._registrations.put(client_id, registration.model_copy(update={"slot": number}), ttl=self.lifetime)

    async def keep(self, client_id: str) -> None:
        """Keep a client for good: it completed a sign-in.

        Clients that were registered before this was counted are left alone; of those whose client_id is the URL of a
        document, that is kept. A kill at any point leaves a client that can be kept by its next sign-in, and never one
        that is marked as used and expires.

        Raises:
            RegistrationDropped: it was dropped meanwhile; outage.note() was called, so that the client tries again.

        """
        if client_id in self._kept:
            return
        if "://" in client_id:
            if self._documents is not None:
                await self._documents.keep(client_id)
            return
        registration = await self.get(client_id)
        if registration is None:
            if await self._clients.get_client(client_id) is None:
                raise _dropped()
        elif not registration.used:
            await self._keep(client_id, registration)
        if len(self._kept) >= MOST_REMEMBERED:
            self._kept.clear()
        self._kept.add(client_id)

    async def discard(self, places: Sequence[Place]) -> None:
        """Delete what a registration that failed has stored; what cannot be deleted expires."""
        try:
            await apply_deletes(self._store, places)
        except Exception as error:  # noqa: BLE001  # the registration's own failure is what matters
            log.warning("the records of a failed registration will expire", extra={"error": type(error).__name__})

    async def record_answer(self, fingerprint: str, answer: RecordedAnswer) -> None:
        """Give this answer again to who registers the same; for half a lifetime, so that the rest suffices to sign in.

        This is safe for what `fingerprint_of` gives a name to: public clients whose codes go to a program on the
        machine of the browser. Such programs share a client_id without being able to do anything with it: a code and
        a token are worth something only to who holds the verifier (RFC 7636) or the token itself.
        """
        await self._answers.put(fingerprint, answer, ttl=self.lifetime / 2)

    async def recorded_answer(self, fingerprint: str) -> RecordedAnswer | None:
        """Find the answer to the same registration, if its client is still there."""
        answer = await self._answers.get(fingerprint)
        if answer is None or await self.get(answer.client_id) is None:
            return None
        return answer if await self._clients.get_client(answer.client_id) is not None else None

    async def _keep(self, client_id: str, registration: Registration) -> None:
        if not await self._settle(client_id, KEPT):
            settled = await self._store.get(client_id, collection=FATES)
            if settled is not None and settled["fate"] == DROPPED:
                raise _dropped()
        for collection, key in registration.places:
            if (record := await self._store.get(key, collection=collection)) is not None:
                await self._store.put(key, record, collection=collection)
        if await self._clients.get_client(client_id) is None:
            # It expired just now.
            await self._store.delete(client_id, collection=FATES)
            raise _dropped()
        used = registration.model_copy(update={"used": True, "slot": None})
        await self._registrations.put(client_id, used)
        await self._vacate(registration.slot, client_id)
        await self._store.delete(client_id, collection=FATES)

    async def _vacate(self, number: int | None, client_id: str) -> None:
        slot = None if number is None else await self._slots.get(str(number))
        if slot is not None and slot.client_id == client_id:
            await self._slots.delete(str(number))

    async def _occupy(self, slot: Slot) -> int:
        """Put an unused client into a free slot, or into the oldest of a few; return its number."""
        held: list[tuple[float, int, Slot]] = []
        numbers = secrets.SystemRandom().sample(range(self._most_unused), k=min(SLOTS_TO_TRY, self._most_unused))
        for number in numbers:
            holder = await self._slots.get(str(number))
            if holder is not None:
                held.append((holder.registered_at, number, holder))
            elif await self._store.add(str(number), slot.model_dump(mode="json"), collection=SLOTS):
                return number
        for _, number, holder in sorted(held, key=lambda found: found[:2]):
            if await self._take_over(number, holder, slot):
                return number
        # Others were faster at each of them, or were killed at it: one client more, until it expires.
        await self._slots.put(str(numbers[0]), slot)
        return numbers[0]

    async def _take_over(self, number: int, holder: Slot, slot: Slot) -> bool:
        """Drop the holder of a slot and put another client there, unless somebody else is at it."""
        if not await self._settle(holder.client_id, DROPPED):
            return False
        found = await self._slots.get(str(number))
        is_still_there = found is not None and found.client_id == holder.client_id
        if is_still_there:
            registration = await self.get(holder.client_id)
            if registration is None or not registration.used:
                await apply_deletes(self._store, holder.records)
            await self._slots.put(str(number), slot)
        await self._store.delete(holder.client_id, collection=FATES)
        return is_still_there

    async def _settle(self, client_id: str, fate: Fate) -> bool:
        """Settle what becomes of a client, unless that is settled; tell whether we did.

        That it is kept must hold until it is marked as used, however long after a kill that is; that it is dropped
        must not hold on after a kill, since it may be half done only.
        """
        lifetime = None if fate == KEPT else DROPPING_TAKES
        return await self._store.add(client_id, {"fate": fate}, collection=FATES, ttl=lifetime)


def fingerprint_of(metadata: Mapping[str, Any], *, address: str, origin: str) -> str | None:
    """Name what a registration asks for, and who asks; None where two programs must not get the same client_id.

    They may where each redirect URI leads to a program on the machine of the browser and there is no secret. A hosted
    service registers once for many people: if these shared a client_id, one could profit from another one's consent.
    """
    if metadata.get("token_endpoint_auth_method") != "none":
        return None
    uris = metadata.get("redirect_uris")
    if not isinstance(uris, list) or not all((uri := parsed(text)) and LOOPBACK.allows(uri) for text in uris):
        return None
    return hashlib.sha256(json.dumps([address, origin, metadata], sort_keys=True).encode()).hexdigest()


def parsed(uri: Any) -> AnyUrl | None:
    """Read a redirect URI as FastMCP does, which is how a browser will; None where it is none."""
    try:
        return AnyUrl(uri)
    except ValidationError:
        return None


def network_of(address: str) -> str:
    """Who an address belongs to: an IPv6 customer has a whole /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _dropped() -> RegistrationDropped:
    outage.note("the client was dropped, as one that nobody used, while it signed in")
    return RegistrationDropped()
