"""What is reached over HTTP: the identity provider, and this very server under its public URL."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from fastmcp.server.auth import AuthProvider
from fastmcp.server.auth.oauth_proxy import OAuthProxy

from mcp_holdfast.auth.providers import ProviderPlan, ProviderUnreachable
from mcp_holdfast.examination.finding import Finding, Verdict, judged, of_problem
from mcp_holdfast.examination.place import clock_finding
from mcp_holdfast.fastmcp_line import httpx
from mcp_holdfast.settings import ConfigurationError, Settings, without_credentials
from mcp_holdfast.settings.values import is_loopback

NO_ANSWER = (httpx.RequestError, httpx.InvalidURL)
ENDPOINTS = ("_upstream_authorization_endpoint", "_upstream_token_endpoint", "_upstream_revocation_endpoint")
URL_PARAMETERS = ("jwks_uri", "introspection_url")
LOCAL_PROXIES = "127.0.0.1"
RESOURCE_METADATA = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True)
class Answers:
    """What can be asked, with the environment's proxies and authorities."""

    http: httpx.Client

    def status(self, url: str) -> tuple[int, float | None] | str:
        """Ask, and return the status and by how many seconds our clock is ahead; or why there is no answer."""
        began = time.time()
        try:
            # The headers tell enough, and a body may never end.
            with self.http.stream("GET", url) as response:
                pass
        except NO_ANSWER as error:
            return str(error) or type(error).__name__
        try:
            date = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return response.status_code, None
        # The header has whole seconds, and the answer was under way for a while.
        middle = (began + time.time()) / 2
        return response.status_code, middle - date - 0.5


def examine_provider(plan: ProviderPlan | None, answers: Answers) -> Iterator[Finding]:
    """Yield whether each address of the identity provider answers; None is the built-in login, or none."""
    if plan is None:
        yield judged("identity provider", "none is asked")
        return
    try:
        provider = plan.try_to_build()
    except ProviderUnreachable as error:
        yield Finding("identity provider", Verdict.PROBLEM, str(error), REACH)
        return
    except ConfigurationError as error:
        yield from map(of_problem, error.problems)
        return
    skews = []
    for url in sorted(_addresses(plan, provider)):
        status = answers.status(url)
        if isinstance(status, str) or status[0] >= 500:
            what = status if isinstance(status, str) else f"answered {status[0]}"
            yield Finding("identity provider", Verdict.PROBLEM, f"{without_credentials(url)}: {what}", REACH)
            continue
        yield judged("identity provider", f"{without_credentials(url)} answers")
        if status[1] is not None:
            skews.append((urlsplit(url).hostname or url, status[1]))
    if skews:
        yield clock_finding(*max(skews, key=lambda skew: abs(skew[1])))


REACH = "Open the way there (security group, proxy in HTTPS_PROXY, authority in SSL_CERT_FILE), or wait until it is up"


def _addresses(plan: ProviderPlan, provider: AuthProvider) -> set[str]:
    """Every address that the provider and its verifiers will use, without queries."""
    login = getattr(provider, "server", provider)
    found = [getattr(login, name, None) for name in ENDPOINTS] if isinstance(login, OAuthProxy) else []
    found += [part.arguments.get(name) for part in plan.all_plans() for name in URL_PARAMETERS]
    return {str(url).partition("?")[0] for url in found if url}


def examine_public_urls(settings: Settings, path: str, answers: Answers) -> Iterator[Finding]:
    """Yield whether clients that use the public URLs get to this server, and are told apart."""
    is_public = any(not is_loopback(urlsplit(url).hostname or "") for url in settings.base_urls)
    if is_public and settings.forwarded_allow_ips == LOCAL_PROXIES:
        concern = (
            "all clients behind your proxy seem to be one, whose wrong PINs and registrations are counted together"
        )
        remedy = "Set it to your proxy's address, as in 10.0.0.0/16"
        yield judged("FORWARDED_ALLOW_IPS", LOCAL_PROXIES, concern, remedy)
    for url in settings.base_urls:
        yield judged("public URL", f"{url}, no login") if settings.provider == "none" else _asked(url, path, answers)


def _asked(base_url: str, path: str, answers: Answers) -> Finding:
    address = _metadata_address(base_url, path)
    try:
        response = answers.http.get(address)
    except NO_ANSWER as error:
        what = f"{base_url} cannot be reached from here ({error or type(error).__name__})"
        return judged("public URL", what, "look from where clients are", f"Try {address} there")
    resource = _resource(response)
    if resource == f"{base_url}{path}":
        return judged("public URL", f"{base_url} leads to this configuration")
    if resource is not None:
        what = f"at {base_url} answers a server that calls itself {resource}"
        return Finding("public URL", Verdict.PROBLEM, what, "Make HOLDFAST_BASE_URL what clients use, on all replicas")
    what = f"{address} answers {response.status_code}"
    return judged("public URL", what, "no server of this kind is there", "Start it; or correct HOLDFAST_BASE_URL")


def _metadata_address(base_url: str, path: str) -> str:
    """Where a client looks (RFC 9728, section 3.1)."""
    parts = urlsplit(base_url)
    return parts._replace(path=f"{RESOURCE_METADATA}{parts.path}{path}").geturl()


def _resource(response: httpx.Response) -> Any:
    try:
        document = response.json()
    except ValueError:
        return None
    return document.get("resource") if isinstance(document, Mapping) and response.status_code == 200 else None
