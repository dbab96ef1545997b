"""What a client may register."""

from mcp.server.auth.provider import RegistrationError
from mcp.shared.auth import OAuthClientInformationFull
from pydantic_core import PydanticSerializationError

from mcp_holdfast.settings import redirect_uri_problem


def check_registration(client: OAuthClientInformationFull) -> None:
    """Refuse what would send a code astray (RFC 9700, section 4.1.1) or cannot be answered.

    Raises:
        RegistrationError: with the redirect URI or what else is wrong (RFC 7591, section 3.2.2).

    """
    if not client.redirect_uris:
        raise RegistrationError("invalid_redirect_uri", "redirect_uris is missing; name where codes are to be sent")
    for uri in client.redirect_uris:
        if reason := redirect_uri_problem(uri):
            raise RegistrationError("invalid_redirect_uri", f"{uri} {reason}")
    try:
        client.model_dump_json()
    except (PydanticSerializationError, UnicodeError):
        raise RegistrationError("invalid_client_metadata", "the metadata is not valid Unicode") from None
