"""Every page that a browser can be shown in a sign-in by following a link, each reached as people reach it."""

from collections.abc import Callable
from dataclasses import dataclass

import httpx

from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, browser
from harness.server import Server

LOCAL_APPLICATION = "http://localhost:3118/callback"
APP_ON_A_PHONE = "cursor://anysphere.cursor-mcp/oauth/callback"
NOBODY = "of-nobody"
LISTED_DOMAIN = "example.com"
UNVERIFIED = "ada"
ADDRESSES = {UNVERIFIED: {"email": f"ada@{LISTED_DOMAIN}"}}
"""What the identity provider says of people, and never that it has verified it."""


@dataclass(frozen=True)
class Sites:
    """A server with the built-in login, two with FastMCP's proxy, of which one has a list, and whom these ask."""

    local: Server
    proxy: Server
    listed: Server
    provider: IdentityProvider


@dataclass(frozen=True)
class Visit:
    """A link that is about to be opened, in a browser with the cookies of `http`."""

    server: Server
    url: str
    http: httpx.Client


Reach = Callable[[Sites], Visit]


@dataclass(frozen=True)
class Situation:
    """How to come to a page, and what it is to say: status, heading, and a part of the text."""

    reach: Reach
    status: int
    heading: str
    text: str


def client_of(server: Server, name: str = "Claude Code", redirect_uri: str = LOCAL_APPLICATION) -> OAuthClient:
    client = OAuthClient(browser(server.url))
    client.register(client_name=name, redirect_uris=[redirect_uri]).raise_for_status()
    return client


def question(
    server: Server, redirect_uri: str = LOCAL_APPLICATION, name: str = "Claude Code", **parameters: str
) -> Visit:
    """The sign-in page or the consent page, for this application."""
    client = client_of(server, name, redirect_uri)
    asked = client.authorize(redirect_uri=redirect_uri, **parameters)
    return Visit(server, asked.headers["location"], client.http)


def authorization(server: Server, **parameters: str) -> Visit:
    """A link to /authorize that is right but for these parameters."""
    client = client_of(server)
    asked = client.authorize(**{"redirect_uri": LOCAL_APPLICATION, **parameters})
    return Visit(server, str(asked.request.url), client.http)


def link(server: Server, path: str, **parameters: str) -> Visit:
    return Visit(server, str(httpx.URL(f"{server.url}{path}", params=parameters)), browser(server.url))


def callback(sites: Sites, *, code: str = "", same_browser: bool = True) -> Visit:
    """The way back from the identity provider, where the person has signed in; with another code where one is given."""
    visit = question(sites.proxy)
    person = ProxyPerson(quick=True, http=visit.http)
    url = httpx.URL(person.sign_in(person.allow(person.open(visit.url)).headers["location"]))
    if code:
        url = url.copy_set_param("code", code)
    return Visit(sites.proxy, str(url), visit.http if same_browser else browser())


def listed_callback(sites: Sites, account: str) -> Visit:
    """The same at the server with a list, where this account has signed in."""
    visit = question(sites.listed)
    person = ProxyPerson(account, quick=True, http=visit.http)
    return Visit(sites.listed, person.sign_in(person.allow(person.open(visit.url)).headers["location"]), visit.http)


def provider_is_down(sites: Sites) -> Visit:
    visit = callback(sites)
    sites.provider.fail_token_endpoint(503)
    return visit


ASKS = "Allow an application to use"
CONNECT = "connect again"
EXPIRED = "This sign-in has expired"
INCOMPLETE = "This sign-in link is not complete"
REFUSED = "The identity provider did not confirm the sign-in"
UNKNOWN = "This application is not known here"
WRONG_ADDRESS = "This link leads to an address that is not allowed"

SITUATIONS = {
    "sign-in": Situation(lambda sites: question(sites.local), 200, ASKS, "Approve only if you have just asked"),
    "consent": Situation(lambda sites: question(sites.proxy), 200, ASKS, "Approve only if you have just asked"),
    "consent for an app": Situation(
        lambda sites: question(sites.proxy, APP_ON_A_PHONE, "Cursor"), 200, ASKS, "Any app on this device can claim"
    ),
    "unknown application": Situation(
        lambda sites: authorization(sites.proxy, client_id=NOBODY), 400, UNKNOWN, "add it again"
    ),
    "unknown application at the built-in login": Situation(
        lambda sites: authorization(sites.local, client_id=NOBODY), 400, UNKNOWN, "add it again"
    ),
    "wrong address": Situation(
        lambda sites: authorization(sites.proxy, redirect_uri="https://evil.example/"), 400, WRONG_ADDRESS, "close"
    ),
    "wrong address at the built-in login": Situation(
        lambda sites: authorization(sites.local, redirect_uri="https://evil.example/"), 400, WRONG_ADDRESS, "close"
    ),
    "no request": Situation(lambda sites: link(sites.proxy, "/authorize"), 400, INCOMPLETE, CONNECT),
    "no request at the built-in login": Situation(
        lambda sites: link(sites.local, "/authorize"), 400, INCOMPLETE, CONNECT
    ),
    "long request": Situation(
        lambda sites: authorization(sites.proxy, state="s" * 9000), 414, "The request is too long", CONNECT
    ),
    "broken sign-in link": Situation(
        lambda sites: link(sites.local, "/signin", request=NOBODY), 400, INCOMPLETE, CONNECT
    ),
    "expired consent": Situation(lambda sites: link(sites.proxy, "/consent", txn_id=NOBODY), 400, EXPIRED, CONNECT),
    "broken consent link": Situation(lambda sites: link(sites.proxy, "/consent"), 400, INCOMPLETE, CONNECT),
    "expired sign-in": Situation(
        lambda sites: link(sites.proxy, "/auth/callback", code="c", state=NOBODY), 400, EXPIRED, CONNECT
    ),
    "broken way back": Situation(lambda sites: link(sites.proxy, "/auth/callback"), 400, INCOMPLETE, CONNECT),
    "denied": Situation(
        lambda sites: link(sites.proxy, "/auth/callback", error="access_denied", state=NOBODY),
        400,
        "Access was denied",
        CONNECT,
    ),
    "error of the provider": Situation(
        lambda sites: link(sites.proxy, "/auth/callback", error="server_error"), 400, REFUSED, CONNECT
    ),
    "another browser": Situation(
        lambda sites: callback(sites, same_browser=False), 403, "This sign-in was begun in another browser", "cookie"
    ),
    "refused code": Situation(lambda sites: callback(sites, code=NOBODY), 400, REFUSED, CONNECT),
    "not on the list": Situation(
        lambda sites: listed_callback(sites, "eve"), 403, "This account may not use this server", "another account"
    ),
    "nothing told that is on the list": Situation(
        lambda sites: listed_callback(sites, UNVERIFIED),
        403,
        "This server cannot tell whether you may use it",
        "the log says",
    ),
    "provider down": Situation(
        provider_is_down, 503, "The server cannot reach what it needs right now", "Nothing is lost"
    ),
}
