"""Clients that are configured instead of registered: HOLDFAST_CLIENTS, a JSON object from client_id to metadata."""

import base64
import binascii
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AnyUrl, BaseModel, BeforeValidator, ConfigDict, SecretStr, model_validator

from mcp_holdfast.settings.entries import Entries, check_scope, read_object, wrong
from mcp_holdfast.settings.values import redirect_uri_problem

CLIENT_ID = re.compile(r"[A-Za-z0-9._~-]{1,128}")
ARGON2ID = re.compile(r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
MOST_MEMORY = 256 * 1024
"""In KiB: what strangers can make the server use by trying a secret."""

MOST_PASSES = 16
SHORTEST_SALT = 8
SHORTEST_HASH = 16
HASH_STEP = 8
"""In bytes: what programs make is 16, 24, 32 or 64 bytes long, and one that lost its last characters is not."""

LONGEST_NAME = 200

REASONS = {
    "url_parsing": "is no URI",
    "url_type": "is no URI",
    "literal_error": "is none of none, client_secret_basic and client_secret_post",
}


def _check_redirect_uri(uri: AnyUrl) -> AnyUrl:
    reason = "must be exact, without *" if "*" in str(uri) else redirect_uri_problem(uri)
    if reason:
        raise wrong("{reason}", reason=reason)
    return uri


def _check_redirect_uris(uris: tuple[AnyUrl, ...]) -> tuple[AnyUrl, ...]:
    if not uris:
        raise wrong("is empty")
    return uris


def _check_name(name: str) -> str:
    if not name.isprintable() or not 1 <= len(name) <= LONGEST_NAME:
        raise wrong("is not 1 to {longest} printable characters", longest=LONGEST_NAME)
    return name


def _check_client_id(client_id: str) -> str:
    if not CLIENT_ID.fullmatch(client_id):
        raise wrong("is no client_id; use letters, digits and . _ ~ -, 128 at most")
    return client_id


def _check_hash(encoded: SecretStr) -> SecretStr:
    parts = ARGON2ID.fullmatch(encoded.get_secret_value())
    if parts is None:
        raise wrong("is not what 'holdfast clients hash' prints; in a compose file each $ of it is written $$")
    memory, passes, lanes = (int(parts[number]) for number in (1, 2, 3))
    if not (lanes >= 1 and 8 * lanes <= memory <= MOST_MEMORY and 1 <= passes <= MOST_PASSES):
        raise wrong("has parameters that this server does not compute")
    if _length(parts[4]) < SHORTEST_SALT or _length(parts[5]) < SHORTEST_HASH or _length(parts[5]) % HASH_STEP:
        raise wrong("was cut off")
    return encoded


def _length(text: str) -> int:
    """How many bytes base64 without padding stands for; 0 where it is none."""
    try:
        return len(base64.b64decode(text + "=" * (-len(text) % 4)))
    except binascii.Error:
        return 0


RedirectUris = tuple[Annotated[AnyUrl, AfterValidator(_check_redirect_uri)], ...]


class ClientSettings(BaseModel):
    """A client that need not register. The names are those of RFC 7591, section 2, but for the hash of its secret.

    `scope` is None for all that the server has; `token_endpoint_auth_method` is None where the client may send its
    secret in either way.
    """

    # It is built as a part of Settings, and nowhere else.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    client_name: Annotated[str, AfterValidator(_check_name)] | None = None
    redirect_uris: Annotated[RedirectUris, AfterValidator(_check_redirect_uris)]
    scope: Annotated[str, AfterValidator(check_scope)] | None = None
    token_endpoint_auth_method: Literal["none", "client_secret_basic", "client_secret_post"] | None = None
    client_secret_hash: Annotated[SecretStr, AfterValidator(_check_hash)] | None = None

    @model_validator(mode="after")
    def _has_a_secret_or_is_public(self) -> Self:
        is_public = self.token_endpoint_auth_method == "none"  # noqa: S105  # a method, no secret
        if is_public and self.client_secret_hash is not None:
            raise wrong("has a client_secret_hash, and an auth method that never asks for it")
        if not is_public and self.client_secret_hash is None:
            raise wrong('has no client_secret_hash; a public client says "token_endpoint_auth_method": "none"')
        return self


Clients = Annotated[
    dict[Annotated[str, AfterValidator(_check_client_id)], ClientSettings],
    BeforeValidator(read_object),
]
"""By client_id."""


CLIENT_ENTRIES = Entries(
    whole="is not an object from client_id to metadata",
    fields=ClientSettings.model_fields,
    refused={
        "client_secret": "is not taken in plain text; give client_secret_hash, which 'holdfast clients hash' prints"
    },
    reasons=REASONS,
)
