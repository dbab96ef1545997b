"""From the environment to the provider that FASTMCP_SERVER_AUTH names: completely, or not at all.

`names` tells which class is meant and which variables are its own, `parameters` what a class takes and what a text
stands for, `reading` makes a plan of both or says all that is wrong, `plan` builds the provider.
"""

from mcp_holdfast.auth.providers.names import SHIPPED, SHORT_NAMES
from mcp_holdfast.auth.providers.plan import ProviderPlan, ProviderUnreachable
from mcp_holdfast.auth.providers.reading import plan_provider, provider_of, unread_variables

__all__ = [
    "SHIPPED",
    "SHORT_NAMES",
    "ProviderPlan",
    "ProviderUnreachable",
    "plan_provider",
    "provider_of",
    "unread_variables",
]
