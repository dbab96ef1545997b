"""Sessions of FastMCP's OAuthProxy, carried on by the OAuthProxy here: the records are the same, the keys are not."""

import base64
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence

from fastmcp.server.auth.oauth_proxy.models import JTIMapping, ProxyDCRClient, RefreshTokenMetadata, UpstreamTokenSet
from pydantic import BaseModel, ValidationError

from mcp_holdfast.auth.imported.records import NOT_UNDERSTOOD, Adopted, registration_of
from mcp_holdfast.auth.sessions import SESSIONS, UPSTREAM_TOKENS, Session
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.importers import Findings, Record
from mcp_holdfast.storage.importers.fastmcp import CLIENTS, KEPT, REFRESH_TOKEN_HASHES, TOKEN_IDENTIFIERS

IMPORTED_KEYS = "holdfast_imported_keys"
"""What other servers signed their tokens with, by the key's fingerprint, for as long as any of the tokens lives."""

MODELS: Mapping[str, type[BaseModel]] = {
    CLIENTS: ProxyDCRClient,
    UPSTREAM_TOKENS: UpstreamTokenSet,
    TOKEN_IDENTIFIERS: JTIMapping,
    REFRESH_TOKEN_HASHES: RefreshTokenMetadata,
}
"""FastMCP's own forms, in the order in which records are stored: what others refer to first."""

Understood = Mapping[str, Sequence[tuple[Record, BaseModel]]]


def proxy_records(findings: Findings) -> list[Adopted]:
    """The records as OAuthProxy keeps them here; those of a form that cannot be read are added to what is left."""
    understood = {collection: list(_understood(findings, collection)) for collection in MODELS}
    adopted = []
    for collection, found in understood.items():
        for record, model in found:
            place = (collection, record.key)
            adopted.append(Adopted(place, model.model_dump(mode="json"), record.expires_at, KEPT[collection]))
            if isinstance(model, ProxyDCRClient):
                adopted.append(registration_of(model, place))
    return [*adopted, *_sessions(understood)]


def _understood(findings: Findings, collection: str) -> Iterator[tuple[Record, BaseModel]]:
    for record in findings.records:
        if record.collection == collection:
            try:
                yield record, MODELS[collection].model_validate(record.value)
            except ValidationError:
                findings.leave(KEPT[collection], NOT_UNDERSTOOD)


def _sessions(understood: Understood) -> Iterator[Adopted]:
    """What lets the operator see and end each session: the tokens of the identity provider, and all that lead there."""
    names = {record.key: getattr(model, "client_name", None) for record, model in understood[CLIENTS]}
    leading: dict[str, list[tuple[str, str, float | None]]] = {}
    for record, model in understood[TOKEN_IDENTIFIERS]:
        if isinstance(model, JTIMapping):
            found = leading.setdefault(model.upstream_token_id, [])
            found.append((TOKEN_IDENTIFIERS, record.key, record.expires_at))
    for record, model in understood[UPSTREAM_TOKENS]:
        if isinstance(model, UpstreamTokenSet) and record.key in leading:
            session = Session(
                client_id=model.client_id,
                client_name=names.get(model.client_id),
                created_at=model.created_at,
                records=[(UPSTREAM_TOKENS, record.key, record.expires_at), *leading[record.key]],
            )
            place = (SESSIONS, imported_session(record.key))
            yield Adopted(place, session.model_dump(mode="json"), session.expires_at)


def imported_session(upstream_tokens: str) -> str:
    """The identifier of an imported session, by the key of its identity provider's tokens.

    Its own tokens are not known, only what they lead to.
    """
    return hashlib.sha256(f"imported {upstream_tokens}".encode()).hexdigest()[:32]


async def keep_signing_key(findings: Findings, store: AtomicStore) -> None:
    """Store what the tokens were signed with until the last of them expires."""
    times = [record.expires_at for record in findings.records if record.collection == TOKEN_IDENTIFIERS]
    if findings.signing_key is None or not times:
        return
    known, remaining = await store.ttl(findings.fingerprint, collection=IMPORTED_KEYS)
    if known is not None and remaining is None:
        return
    lifetime = None
    if None not in times:
        lifetime = max(remaining or 1.0, max(time for time in times if time is not None) - time.time())
    value = {"key": base64.urlsafe_b64encode(findings.signing_key).decode(), "imported_at": time.time()}
    await store.put(findings.fingerprint, value, collection=IMPORTED_KEYS, ttl=lifetime)


async def imported_keys(store: AtomicStore) -> list[bytes]:
    """The keys of other servers that tokens may still be signed with."""
    return [base64.urlsafe_b64decode(entry.value["key"]) async for _, entry in store.entries(IMPORTED_KEYS)]
