"""What a token is asked for (RFC 8707): ours are good for this server's MCP endpoint and nothing else."""

from collections.abc import Iterable

from fastmcp.server.auth.auth import AuthProvider
from pydantic import AnyHttpUrl, ValidationError

from mcp_holdfast.auth.forms import MalformedRequest


def refuse_other_resources(provider: AuthProvider, resources: Iterable[str]) -> None:
    """Refuse to give tokens for other servers.

    Raises:
        MalformedRequest: one of these URLs is not the provider's resource (RFC 8707, section 2, invalid_target).

    """
    ours = provider._resource_url
    if ours is not None and any(_parts(resource) != _parts(str(ours)) for resource in resources):
        raise MalformedRequest(f"tokens are issued for {ours} only", error="invalid_target")


def _parts(url: str) -> tuple[object, ...] | None:
    """What two URLs of one resource have in common; ChatGPT adds a query, and some clients a slash."""
    try:
        parsed = AnyHttpUrl(url)
    except ValidationError:
        return None
    path = (parsed.path or "").rstrip("/")
    return parsed.scheme, parsed.username, parsed.password, parsed.host, parsed.port, path, parsed.fragment
