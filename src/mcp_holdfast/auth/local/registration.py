"""What a client may register."""

import re

from mcp.server.auth.provider import RegistrationError
from mcp.shared.auth import OAuthClientInformationFull
from pydantic import AnyUrl
from pydantic_core import PydanticSerializationError

from mcp_holdfast.settings import BROWSERS_OWN_SCHEMES, is_loopback


def check_registration(client: OAuthClientInformationFull) -> None:
    """Refuse what would send a code astray (RFC 9700, section 4.1.1) or cannot be answered.

    Raises:
        RegistrationError: with the redirect URI or what else is wrong (RFC 7591, section 3.2.2).

    """
    if not client.redirect_uris:
        raise RegistrationError("invalid_redirect_uri", "redirect_uris is missing; name where codes are to be sent")
    for uri in client.redirect_uris:
        if reason := _reason_against(uri):
            raise RegistrationError("invalid_redirect_uri", f"{uri} {reason}")
    try:
        client.model_dump_json()
    except (PydanticSerializationError, UnicodeError):
        raise RegistrationError("invalid_client_metadata", "the metadata is not valid Unicode") from None


def _reason_against(uri: AnyUrl) -> str:
    if uri.scheme in BROWSERS_OWN_SCHEMES:
        return f"must not have the scheme {uri.scheme}"
    if uri.fragment is not None:
        return "must not have a fragment (RFC 6749, section 3.1.2)"
    if uri.username is not None or uri.password is not None:
        return "must not carry a user name or password, which hide the host from people"
    if uri.scheme == "http" and not is_loopback((uri.host or "").strip("[]")):
        return "must be https, unless its host is localhost (RFC 8252, section 7.3)"
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", uri.scheme):
        return "has no valid scheme"
    return ""
