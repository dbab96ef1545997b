"""Which claims of a provider's tokens say who somebody is, such that nobody can choose them for themselves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastmcp.server.auth import AuthProvider
from fastmcp.server.auth.providers.aws import AWSCognitoProvider, AWSCognitoTokenVerifier
from fastmcp.server.auth.providers.azure import AzureJWTVerifier, AzureProvider
from fastmcp.server.auth.providers.discord import DiscordProvider, DiscordTokenVerifier
from fastmcp.server.auth.providers.github import GitHubProvider, GitHubTokenVerifier
from fastmcp.server.auth.providers.google import GoogleProvider, GoogleTokenVerifier
from fastmcp.server.auth.providers.keycloak import KeycloakAuthProvider

EMAIL = "email"
"""Anyone may write any address into an account somewhere: it counts only beside email_verified (OpenID Connect Core,
section 5.1).
"""

LOGIN = "login"
"""At GitHub one may be all digits, as the number of somebody else's account is: it counts only where it is not."""

ANY_TENANT = frozenset({"common", "organizations", "consumers"})


@dataclass(frozen=True)
class Claims:
    """The claims that tell a person's names, domain and groups; dots lead into claims that are objects.

    Empty where a provider tells nothing of the kind, or nothing that can be relied on.
    """

    users: tuple[str, ...] = ("sub", EMAIL)
    domains: tuple[str, ...] = (EMAIL,)
    groups: tuple[str, ...] = ("groups", "roles")


ENTRA = Claims(("oid", "preferred_username"), ("preferred_username",))
"""A tenant's names are its administrators' to give; `email` is not, and no token says whether it was verified."""

ENTRA_OF_ANYONE = Claims(("oid",), (), ("groups",))
"""In other tenants anyone is an administrator, who gives names and the application's roles to whom they want to. Groups
are told by numbers that nobody chooses.
"""

COGNITO = Claims(("sub",), (), ("cognito:groups",))
"""Where people sign up by themselves they choose their `username`; access tokens have no address."""

GITHUB = Claims(("sub", LOGIN), (), ())
"""The address is the one that the person chose to show, and nothing says that it was verified."""

GOOGLE = Claims(("sub", EMAIL), ("google_user_data.hd",), ())
"""A personal account may have an address of any domain; `hd` is only there where the domain's owner runs the account
(https://developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload).
"""

CLAIMS: Mapping[type[AuthProvider], Claims] = {
    AWSCognitoProvider: COGNITO,
    AWSCognitoTokenVerifier: COGNITO,
    AzureProvider: ENTRA,
    AzureJWTVerifier: ENTRA,
    DiscordProvider: Claims(("sub",), (), ()),
    DiscordTokenVerifier: Claims(("sub",), (), ()),
    GitHubProvider: GITHUB,
    GitHubTokenVerifier: GITHUB,
    GoogleProvider: GOOGLE,
    GoogleTokenVerifier: GOOGLE,
    KeycloakAuthProvider: Claims(groups=("groups", "realm_access.roles")),
}
"""By provider; all others are as OpenID Connect says, and tell groups as most of them do."""


def is_known(provider_class: type[AuthProvider]) -> bool:
    """Whether it tells people apart otherwise than OpenID Connect says."""
    return issubclass(provider_class, tuple(CLAIMS))


def claims_of(provider_class: type[AuthProvider], arguments: Mapping[str, Any]) -> Claims:
    """The claims of a provider that is made with these arguments."""
    found = next((claims for known, claims in CLAIMS.items() if issubclass(provider_class, known)), Claims())
    return ENTRA_OF_ANYONE if found is ENTRA and str(arguments.get("tenant_id")).lower() in ANY_TENANT else found


def names_in(claims: Mapping[str, Any], claim: str) -> Iterator[str]:
    """The names that a claim holds: one, or a list of them.

    An address that was not verified is none, nor is a login that is a number.
    """
    if claim == EMAIL and claims.get("email_verified") not in (True, "true"):
        return
    found = claims[claim] if claim in claims else _inside(claims, claim)
    for name in found if isinstance(found, list) else [found]:
        if isinstance(name, str) and name and not (claim == LOGIN and name.isdecimal()):
            yield name


def _inside(claims: Mapping[str, Any], path: str) -> Any:
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
