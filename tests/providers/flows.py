"""What each page of docs/providers leads to: whose hosts are asked, and what payloads learn of a person there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from harness.vendor import Vendor

ACCOUNT = "ada"
TENANT = "11111111-1111-1111-1111-111111111111"
COGNITO_LOGIN = "people.auth.eu-west-1.amazoncognito.com"
OF_GOOGLE = ("oauth2.googleapis.com", "www.googleapis.com")


@dataclass(frozen=True)
class Flow:
    """`page` has the settings. `revocations` are the grants that the vendor ends when one session is revoked."""

    page: str
    vendor: Vendor
    claims: Mapping[str, Any]
    scopes: Sequence[str]
    revocations: int = 1


def vendor(flavour: str, issuer: str, *asked: str, shown: str = "") -> Vendor:
    host = httpx.URL(issuer).host
    return Vendor(flavour, issuer, frozenset(asked or {host}), shown or host)


KEYCLOAK = vendor("keycloak", "https://keycloak.example.com/realms/people")
OF_KEYCLOAK = {
    "sub": "ada-user-id",
    "preferred_username": "ada",
    "realm_access": {"roles": ["offline_access", "reader"]},
}

ENTRA = Flow(
    "entra",
    vendor("entra", f"https://login.microsoftonline.com/{TENANT}/v2.0"),
    {"oid": "ada-object-id", "preferred_username": "ada@example.com", "tid": TENANT, "scp": "access_as_user"},
    ["access_as_user"],
    revocations=0,
)
GOOGLE = Flow(
    "google",
    vendor("google", "https://accounts.google.com", *OF_GOOGLE),
    {"sub": "ada", "email": "ada@example.com", "name": "ada"},
    ["openid", "https://www.googleapis.com/auth/userinfo.email"],
    revocations=0,
)
AUTH0 = Flow(
    "auth0", vendor("auth0", "https://people.eu.auth0.com/"), {"sub": "auth0|ada"}, ["openid", "offline_access"]
)
COGNITO_ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI"
COGNITO = Flow(
    "cognito",
    vendor("cognito", COGNITO_ISSUER, httpx.URL(COGNITO_ISSUER).host, COGNITO_LOGIN, shown=COGNITO_LOGIN),
    {"sub": "ada-user-id", "username": "ada", "cognito:groups": ["readers"]},
    ["openid"],
)
OIDC = Flow("oidc", KEYCLOAK, OF_KEYCLOAK, ["openid", "offline_access"])
REMOTE = Flow("keycloak", KEYCLOAK, OF_KEYCLOAK, ["openid", "offline_access"])
GITHUB = Flow(
    "github",
    vendor("github", "https://github.com", "github.com", "api.github.com"),
    {"sub": "4242", "login": "ada", "email": "ada@example.com"},
    ["user"],
)
