"""Bearer tokens of machines: HOLDFAST_TOKENS, a JSON object from a token's name to what it is good for."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, SecretStr

from mcp_holdfast.settings.entries import Entries, check_scope, read_object, wrong

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HASH = re.compile(r"sha256:[0-9a-f]{64}")
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
NEVER = "never"


def check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise wrong("is no name of a token; use letters, digits and . _ -, 64 at most")
    return name


def _check_hash(value: SecretStr) -> SecretStr:
    if not HASH.fullmatch(value.get_secret_value()):
        raise wrong("is not what 'holdfast tokens create' prints: sha256: and 64 hexadecimal digits")
    return value


def _read_expiry(value: Any) -> Any:
    """A moment, or None for never. A date alone is its beginning in UTC."""
    if isinstance(value, datetime) or value == NEVER:
        return None if value == NEVER else value
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        moment = None
    if moment is not None and DATE.fullmatch(value):
        return moment.replace(tzinfo=UTC)
    if moment is None or moment.tzinfo is None:
        raise wrong("is neither a date as 2027-03-31, nor a time as 2027-03-31T12:00:00Z, nor never")
    return moment


class TokenSettings(BaseModel):
    """A token that a machine presents. The token itself is not here, only its hash.

    `expires_at` is None for never; `scope` is None for what every call needs; payloads see `claims`, in which `sub` is
    the name of the token unless it says otherwise.
    """

    # It is built as a part of Settings, and nowhere else.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    token_hash: Annotated[SecretStr, AfterValidator(_check_hash)]
    expires_at: Annotated[datetime | None, BeforeValidator(_read_expiry)]
    scope: Annotated[str, AfterValidator(check_scope)] | None = None
    claims: dict[str, Any] = {}

    @property
    def expiry(self) -> float | None:
        """When it expires, in seconds since the epoch."""
        return None if self.expires_at is None else self.expires_at.timestamp()


def _check_hashes(tokens: dict[str, TokenSettings]) -> dict[str, TokenSettings]:
    names: dict[str, str] = {}
    for name, token in tokens.items():
        if (other := names.setdefault(token.token_hash.get_secret_value(), name)) != name:
            raise wrong("has the same token_hash in {one} and {other}", one=other, other=name)
    return tokens


Tokens = Annotated[
    dict[Annotated[str, AfterValidator(check_name)], TokenSettings],
    BeforeValidator(read_object),
    AfterValidator(_check_hashes),
]
"""By name."""

TOKEN_ENTRIES = Entries(
    whole="is not an object from name to token",
    fields=TokenSettings.model_fields,
    refused={"token": "is not taken in plain text; give token_hash, which 'holdfast tokens create' prints"},
)
