"""Which scopes clients may ask for: those that are advertised, whatever they registered or were granted before."""

from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from fastmcp.server.auth.auth import OAuthProvider
from mcp.shared.auth import OAuthClientInformationFull

GetClient = Callable[[str], Awaitable[OAuthClientInformationFull | None]]


def advertised_scopes(provider: OAuthProvider) -> list[str] | None:
    """The scopes that the provider's metadata names; None if it names none and clients may ask for any."""
    options = provider.client_registration_options
    if options is not None and options.valid_scopes is not None:
        return options.valid_scopes
    return provider.required_scopes or None


def available(scope: str, scopes: Sequence[str]) -> str:
    """What is left of a requested scope; a server may ignore the rest (RFC 6749, section 3.3)."""
    return " ".join(name for name in scope.split() if name in scopes)


def let_clients_ask_for_what_is_advertised(provider: OAuthProvider) -> None:
    """Have every client the scopes of now and not those of the day when it registered."""
    get_client = cast("GetClient", provider.get_client)

    async def client_of_now(client_id: str) -> OAuthClientInformationFull | None:
        client, scopes = await get_client(client_id), advertised_scopes(provider)
        return client and (client if scopes is None else client.model_copy(update={"scope": " ".join(scopes)}))

    provider.get_client = client_of_now  # type: ignore[method-assign]
