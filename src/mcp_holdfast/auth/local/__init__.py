"""The built-in login."""

from mcp_holdfast.auth.local.grants import SCOPE, Issuer
from mcp_holdfast.auth.local.pin import PinCheck, made_up_pin
from mcp_holdfast.auth.local.provider import Lifetimes, LocalLogin
from mcp_holdfast.auth.local.tokens import TokenSigner

__all__ = ["SCOPE", "Issuer", "Lifetimes", "LocalLogin", "PinCheck", "TokenSigner", "made_up_pin"]
