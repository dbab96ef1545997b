"""Why a request of a sign-in was refused: asked of the provider, not guessed from the words of its answer."""

from fastmcp.server.auth.auth import OAuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from mcp.shared.auth import InvalidRedirectUriError, OAuthClientInformationFull
from pydantic import AnyUrl, ValidationError
from starlette.requests import Request

from mcp_holdfast.asgi import AUTHORIZATION, CONSENT, REFUSED, SIGNIN, path_of
from mcp_holdfast.auth.local import LocalLogin
from mcp_holdfast.pages import errors
from mcp_holdfast.pages.errors import ErrorPage

BY_STATUS = {410: errors.EXPIRED, 413: errors.TOO_LONG, 414: errors.TOO_LONG, 429: errors.BUSY}


class Refusals:
    """The paths of a provider at which people are, and what to tell them there."""

    def __init__(self, provider: OAuthProvider | None) -> None:
        """Without a provider of ours nobody signs in here."""
        self._provider = provider
        self._callback = ""
        self.paths: frozenset[str] = frozenset({AUTHORIZATION} if provider else ())
        if isinstance(provider, LocalLogin):
            self.paths |= {SIGNIN}
        if isinstance(provider, OAuthProxy):
            self._callback = provider._redirect_path.rstrip("/")
            self.paths |= {CONSENT, self._callback}

    async def explain(self, http: Request, status: int) -> ErrorPage:
        """Tell why `http`, whose path is one of ours, was answered with this status of an error."""
        found: ErrorPage | None = http.scope.get(REFUSED)
        if found is not None:
            return found
        if status >= 500:
            return errors.FAILED
        if status in BY_STATUS:
            return BY_STATUS[status]
        path = path_of(http.scope)
        if status == 403 and path in {CONSENT, self._callback}:
            return errors.OTHER_BROWSER
        if status != 400:
            return errors.INCOMPLETE
        if path == AUTHORIZATION:
            return await self._explain_authorization(http)
        if path == self._callback:
            return await self._explain_callback(http)
        return errors.EXPIRED if path == CONSENT and _names_a_transaction(http) else errors.INCOMPLETE

    async def _explain_authorization(self, http: Request) -> ErrorPage:
        """What is wrong with the rest of a request its client is told (RFC 6749, section 4.1.2.1)."""
        client_ids = http.query_params.getlist("client_id")
        redirect_uris = http.query_params.getlist("redirect_uri")
        if self._provider is None or len(client_ids) != 1 or not client_ids[0] or len(redirect_uris) > 1:
            return errors.INCOMPLETE
        client = await self._provider.get_client(client_ids[0])
        if client is None:
            return errors.UNKNOWN_APPLICATION
        is_known = return_address(client, redirect_uris[0] if redirect_uris else None) is not None
        return errors.INCOMPLETE if is_known else errors.WRONG_RETURN_ADDRESS

    async def _explain_callback(self, http: Request) -> ErrorPage:
        given = http.query_params
        if given.get("error"):
            return errors.DENIED if given["error"] == "access_denied" else errors.PROVIDER_REFUSED
        if not given.get("code") or not given.get("state") or not isinstance(self._provider, OAuthProxy):
            return errors.INCOMPLETE
        transaction = await self._provider._transaction_store.get(key=given["state"])
        if transaction is None:
            return errors.EXPIRED
        is_allowed = self._provider._validate_client_redirect_uri(transaction.client_redirect_uri)
        return errors.PROVIDER_REFUSED if is_allowed else errors.WRONG_RETURN_ADDRESS


def return_address(client: OAuthClientInformationFull, redirect_uri: str | None) -> AnyUrl | None:
    """Where to answer this client, if that is certain: None where it did not register the address it asks for."""
    try:
        return client.validate_redirect_uri(None if redirect_uri is None else AnyUrl(redirect_uri))
    except (InvalidRedirectUriError, ValidationError):
        return None


def _names_a_transaction(http: Request) -> bool:
    return http.method == "POST" or bool(http.query_params.get("txn_id"))
