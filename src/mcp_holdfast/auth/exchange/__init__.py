"""The exactly-once token endpoint, round that of any provider."""

from mcp_holdfast.auth.exchange.callback import CallbackEndpoint
from mcp_holdfast.auth.exchange.endpoint import TokenEndpoint
from mcp_holdfast.auth.exchange.exchange import Exchange

__all__ = ["CallbackEndpoint", "Exchange", "TokenEndpoint"]
