"""Let a provider take clients for known whose client_id is the URL of their document."""

from collections.abc import Awaitable, Callable
from typing import cast

from fastmcp.server.auth.auth import OAuthProvider, TokenHandler
from fastmcp.server.auth.cimd import CIMDClientManager
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from mcp.server.auth.routes import cors_middleware
from mcp.shared.auth import OAuthClientInformationFull
from starlette.routing import Route

from mcp_holdfast.asgi import TOKEN
from mcp_holdfast.auth.cimd.assertions import Assertions
from mcp_holdfast.auth.cimd.documents import ClientDocuments
from mcp_holdfast.auth.clients import authenticator_of, manager_of
from mcp_holdfast.auth.registrations import RedirectAllowList
from mcp_holdfast.auth.scopes import advertised_scopes
from mcp_holdfast.storage.atomic import AtomicStore

GetClient = Callable[[str], Awaitable[OAuthClientInformationFull | None]]


def accept_documents(
    provider: OAuthProvider, documents: ClientDocuments, store: AtomicStore, allow_list: RedirectAllowList
) -> bool:
    """Have a provider use these documents; False where its own setting (`enable_cimd`) rules them out.

    OAuthProxy knows such clients already; its documents and what it remembers of assertions are replaced. Any other
    provider is shown how. Codes go where both the document and `allow_list` let them.
    """
    manager = manager_of(provider)
    if manager is None:
        if isinstance(provider, OAuthProxy):
            return False
        manager = _give_manager(provider, allow_list)
    manager._fetcher = documents
    manager._assertion_validator = Assertions(documents, store)
    _authenticate_by_assertions(provider)
    return True


def _give_manager(provider: OAuthProvider, allow_list: RedirectAllowList) -> CIMDClientManager:
    get_client = cast("GetClient", provider.get_client)
    scope = " ".join(advertised_scopes(provider) or [])
    manager = CIMDClientManager(default_scope=scope, allowed_redirect_uri_patterns=list(allow_list.patterns))

    async def client_of(client_id: str) -> OAuthClientInformationFull | None:
        if manager.is_cimd_client_id(client_id):
            return cast("OAuthClientInformationFull | None", await manager.get_client(client_id))
        return await get_client(client_id)

    provider.get_client = client_of  # type: ignore[method-assign]
    provider._cimd_manager = manager  # type: ignore[attr-defined]
    return manager


def _authenticate_by_assertions(provider: OAuthProvider) -> None:
    get_routes, methods = provider.get_routes, ["POST", "OPTIONS"]

    def get_routes_by_assertions(mcp_path: str | None = None) -> list[Route]:
        handler = TokenHandler(provider=provider, client_authenticator=authenticator_of(provider))
        token = Route(TOKEN, endpoint=cors_middleware(handler.handle, methods), methods=methods)
        return [token if route.path == TOKEN else route for route in get_routes(mcp_path)]

    provider.get_routes = get_routes_by_assertions  # type: ignore[method-assign]
