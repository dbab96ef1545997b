"""Sessions of other servers' own logins, carried on by the built-in login.

Such a server stores its tokens as they are. Here only their hashes are stored, each with the grant that it stands for:
a refresh token can be exchanged for the first tokens of that grant, and an access token is good until it expires.
"""

import time
from collections.abc import Iterator
from typing import Any

from fastmcp.server.auth.auth import AccessToken
from key_value.aio.adapters.pydantic import PydanticAdapter
from key_value.aio.protocols import AsyncKeyValue
from mcp.server.auth.provider import RefreshToken, RegistrationError
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import BaseModel, ValidationError

from mcp_holdfast.auth.imported.records import NOT_UNDERSTOOD, Adopted, registration_of
from mcp_holdfast.auth.local import LocalLogin
from mcp_holdfast.auth.local.grants import SCOPE, Grant
from mcp_holdfast.auth.local.provider import SUBJECT
from mcp_holdfast.auth.local.registration import check_registration
from mcp_holdfast.auth.local.tokens import InvalidToken
from mcp_holdfast.auth.registrations import host_of
from mcp_holdfast.auth.sessions import SESSIONS, TOKENS, Session, Token, TokenKind, token_key
from mcp_holdfast.storage.importers import ACCESS_TOKENS, REFRESH_TOKENS, REGISTRATIONS, Findings, Record

IMPORTED_TOKENS = "holdfast_imported_tokens"
CLIENTS, GRANTS = "holdfast_clients", "holdfast_grants"
KINDS: dict[str, TokenKind] = {ACCESS_TOKENS: "access_token", REFRESH_TOKENS: "refresh_token"}
GRANT_TYPES = ("authorization_code", "refresh_token")


class ImportedToken(BaseModel):
    """A token that another server issued, stored by its hash; `expires_at` is in seconds since the epoch."""

    kind: TokenKind
    grant: str
    client_id: str
    expires_at: int


def local_records(findings: Findings, *, lifetime: int) -> list[Adopted]:
    """Registrations, grants and tokens as the built-in login keeps them; what it cannot use is added to what is left.

    Tokens that never expired at the other server do so after `lifetime` seconds here.
    """
    clients = dict(_clients(findings))
    adopted = []
    for client_id, client in clients.items():
        place = (CLIENTS, client_id)
        adopted.append(Adopted(place, client.model_dump(mode="json"), None, REGISTRATIONS))
        adopted.append(registration_of(client, place))
    tokens = [
        record for record in findings.records if record.collection in KINDS and record.value["client_id"] in clients
    ]
    for grant_id, issued in _by_grant(tokens).items():
        adopted += _session_records(grant_id, issued, clients[issued[0].value["client_id"]], lifetime)
    return adopted


def _clients(findings: Findings) -> Iterator[tuple[str, OAuthClientInformationFull]]:
    for record in findings.records:
        if record.collection != REGISTRATIONS:
            continue
        try:
            client = OAuthClientInformationFull.model_validate(record.value)
            check_registration(client)
        except ValidationError:
            findings.leave(REGISTRATIONS, NOT_UNDERSTOOD)
        except RegistrationError as error:
            findings.leave(REGISTRATIONS, f"would be refused here: {error.error}")
        else:
            grant_types = list(dict.fromkeys([*client.grant_types, *GRANT_TYPES]))
            yield record.key, client.model_copy(update={"scope": SCOPE, "grant_types": grant_types})


def _by_grant(tokens: list[Record]) -> dict[str, list[Record]]:
    """Tokens that were issued together have one grant."""
    refresh_tokens = {token.key for token in tokens if token.collection == REFRESH_TOKENS}
    grants: dict[str, list[Record]] = {}
    for token in tokens:
        pair = token.value["pair"]
        leader, kind = (pair, REFRESH_TOKENS) if pair in refresh_tokens else (token.key, token.collection)
        # Not the hash of any authorization code, as other grants' identifiers are.
        grants.setdefault(f"imported-{token_key(KINDS[kind], leader)}", []).append(token)
    return grants


def _session_records(
    grant_id: str, tokens: list[Record], client: OAuthClientInformationFull, lifetime: int
) -> Iterator[Adopted]:
    now = int(time.time())
    redirect_uri = client.redirect_uris[0] if client.redirect_uris else None
    client_id = str(client.client_id)
    grant = Grant(
        client_id=client_id,
        subject=SUBJECT,
        scopes=[SCOPE],
        redirect_uri=str(redirect_uri or ""),
        redirect_uri_provided_explicitly=False,
        code_challenge="",
        approved_at=now,
        code_expires_at=0,
    )
    expiries = {token.key: int(token.expires_at or now + lifetime) for token in tokens}
    records: dict[tuple[str, str], tuple[BaseModel, int, str]] = {
        (GRANTS, grant_id): (grant, max(expiries.values()), "")
    }
    for token in tokens:
        kind, expires_at = KINDS[token.collection], expiries[token.key]
        imported = ImportedToken(kind=kind, grant=grant_id, client_id=client_id, expires_at=expires_at)
        known = Token(kind=kind, session=grant_id, client_id=client_id)
        records[IMPORTED_TOKENS, token_key(kind, token.key)] = (imported, expires_at, token.collection)
        records[TOKENS, token_key(kind, token.key)] = (known, expires_at, "")
    session = Session(
        client_id=client_id,
        client_name=client.client_name,
        redirect_host=host_of(redirect_uri) if redirect_uri else None,
        subject=SUBJECT,
        created_at=now,
        records=[(*place, expires_at) for place, (_, expires_at, _) in records.items()],
    )
    yield Adopted((SESSIONS, grant_id), session.model_dump(mode="json"), session.expires_at)
    for place, (record, expires_at, what) in records.items():
        yield Adopted(place, record.model_dump(mode="json"), expires_at, what)


class LoginWithImports(LocalLogin):
    """The built-in login, which also knows the tokens that another server issued before.

    Revoking one of them ends its session, and with it the grant that the token stands for.
    """

    def __init__(self, *, store: AsyncKeyValue, **arguments: Any) -> None:
        super().__init__(store=store, **arguments)
        self._imported_tokens: PydanticAdapter[ImportedToken] = PydanticAdapter(
            key_value=store,
            pydantic_model=ImportedToken,
            default_collection=IMPORTED_TOKENS,
            raise_on_validation_error=False,
        )

    async def load_refresh_token(self, client: OAuthClientInformationFull, refresh_token: str) -> RefreshToken | None:
        found = await super().load_refresh_token(client, refresh_token)
        if found is not None or (imported := await self._imported("refresh_token", refresh_token)) is None:
            return found
        return RefreshToken(token=refresh_token, **self._properties_of(imported))

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        try:
            return await super().exchange_refresh_token(client, refresh_token, scopes)
        except InvalidToken:
            imported = await self._imported("refresh_token", refresh_token.token)
            if imported is None:
                raise
            return await self._issue(imported.grant, generation=0)

    async def load_access_token(self, token: str) -> AccessToken | None:
        found = await super().load_access_token(token)
        if found is not None or (imported := await self._imported("access_token", token)) is None:
            return found
        claims = {"sub": SUBJECT, "client_id": imported.client_id, "scope": SCOPE}
        return AccessToken(token=token, claims=claims, **self._properties_of(imported))

    async def _imported(self, kind: TokenKind, token: str) -> ImportedToken | None:
        """An imported token whose grant was not revoked; a kill may have left the one without the other."""
        found = await self._imported_tokens.get(token_key(kind, token))
        return None if found is None or await self._grants.get(found.grant) is None else found

    def _properties_of(self, imported: ImportedToken) -> dict[str, Any]:
        properties = {"client_id": imported.client_id, "expires_at": imported.expires_at}
        return {**properties, "scopes": [SCOPE], "subject": SUBJECT}
