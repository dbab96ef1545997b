"""Behind Cloudflare Access: nobody comes in past it, and no header is believed without its signature.

The server has no login but tokens for machines, which is tried here, too.
"""

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from harness.document_host import DocumentHost
from harness.egress_proxy import EgressProxy
from harness.oauth import OAuthClient
from harness.server import Server, free_port
from integration.test_audit_log import events_in
from mcp_holdfast.auth.machine_tokens import hash_of, made_up_token

HOST = "people.cloudflareaccess.com"
CERTS = f"https://{HOST}/cdn-cgi/access/certs"
OTHER_HOST = "other.localhost"
AUDIENCE, SECOND = "4" * 64, "5" * 64
KEY, NEXT_KEY, STRANGERS_KEY = (RSAKey.generate_key(2048, {"kid": kid}) for kid in ("one", "two", "one"))
TOKEN = made_up_token()


def claims(**others: Any) -> dict[str, Any]:
    now = int(time.time())
    told: dict[str, Any] = {"iss": f"https://{HOST}", "aud": [AUDIENCE], "sub": "an-id", "email": "ada@example.com"}
    told |= {"iat": now, "nbf": now, "exp": now + 600, **others}
    return {name: value for name, value in told.items() if value is not None}


def assertion(key: RSAKey = KEY, algorithm: str = "RS256", **others: Any) -> str:
    return jwt.encode({"alg": algorithm, "kid": key.kid}, claims(**others), key, [algorithm])


def without_a_private_key(algorithm: str, sign: Callable[[bytes], bytes]) -> str:
    """What anyone can make: signed with nothing, or with the public key as if that were a secret."""
    header = json.dumps({"alg": algorithm, "kid": KEY.kid, "typ": "JWT"})
    signed = b".".join(_base64(part.encode()) for part in (header, json.dumps(claims())))
    return (signed + b"." + _base64(sign(signed))).decode()


def _base64(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def with_the_public_key(signed: bytes) -> bytes:
    return hmac.digest(KEY.as_pem(private=False), signed, "sha256")


def keys(*published: RSAKey) -> dict[str, Any]:
    return {"keys": [{**key.as_dict(private=False), "alg": "RS256", "use": "sig"} for key in published]}


@dataclass
class Site:
    """A server, and Cloudflare as far as the server sees it."""

    server: Server
    cloudflare: DocumentHost

    def ask(self, *assertions: str, path: str = "/mcp", token: str = TOKEN, host: str = "localhost") -> httpx.Response:
        headers = [("Cf-Access-Jwt-Assertion", assertion) for assertion in assertions]
        headers.append(("Host", f"{host}:{self.server.port}"))
        with httpx.Client(base_url=self.server.url, headers=headers) as http:
            return OAuthClient(http).call(token) if path == "/mcp" else http.get(path)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("cloudflare")
    port = free_port()
    cloudflare = DocumentHost(directory, ("127.0.0.1", port), [HOST]).start()
    cloudflare.serve(CERTS, {}, 503)
    way_out = EgressProxy({HOST: port})
    server = Server(directory / "data", directory / "log", FASTMCP_SERVER_AUTH="none", HOLDFAST_TOKEN_CACHE="1")
    server.environment |= {
        "HOLDFAST_BASE_URL": f"{server.url}, http://{OTHER_HOST}:{server.port}",
        "HTTPS_PROXY": way_out.url,
        "SSL_CERT_FILE": str(cloudflare.authority),
        "HOLDFAST_CLOUDFLARE_TEAM": "people",
        "HOLDFAST_METRICS_TOKEN": "m" * 40,
        "HOLDFAST_CLOUDFLARE_AUDIENCE": f"{AUDIENCE}, {SECOND}",
        "HOLDFAST_TOKENS": json.dumps({"ci": {"token_hash": hash_of(TOKEN), "expires_at": "2999-01-01"}}),
    }
    yield Site(server.start(), cloudflare)
    server.stop()
    cloudflare.stop()
    way_out.close()


def test_keys_that_cannot_be_had_are_no_reason_to_refuse_anybody(site: Site) -> None:
    assert site.ask(assertion()).status_code == 503
    site.cloudflare.serve(CERTS, keys(KEY))
    assert site.ask(assertion()).status_code == 200


@pytest.mark.parametrize("audience", [AUDIENCE, [SECOND], ["another", AUDIENCE]], ids=["one", "the other", "two"])
def test_who_came_through_comes_in(site: Site, audience: Any) -> None:
    assert site.ask(assertion(aud=audience)).status_code == 200


WRONG: dict[str, Callable[[], list[str]]] = {
    "none": list,
    "empty": lambda: [""],
    "text": lambda: ["true"],
    "two": lambda: [assertion(), assertion()],
    "unsigned": lambda: [without_a_private_key("none", lambda _: b"")],
    "cut": lambda: [assertion()[:-8]],
    "by a stranger": lambda: [assertion(STRANGERS_KEY)],
    "with an unknown key": lambda: [assertion(NEXT_KEY)],
    "with the public key as a secret": lambda: [without_a_private_key("HS256", with_the_public_key)],
    "of another algorithm": lambda: [assertion(algorithm="RS512")],
    "of another team": lambda: [assertion(iss="https://other.cloudflareaccess.com")],
    "of a longer issuer": lambda: [assertion(iss=f"https://{HOST}.evil.test")],
    "without issuer": lambda: [assertion(iss=None)],
    "for another application": lambda: [assertion(aud=["6" * 64])],
    "without audience": lambda: [assertion(aud=None)],
    "for a part of the audience": lambda: [assertion(aud=AUDIENCE[:-1])],
    "over": lambda: [assertion(exp=int(time.time()) - 5)],
    "without end": lambda: [assertion(exp=None)],
    "not begun": lambda: [assertion(nbf=int(time.time()) + 3600)],
    "of a strange beginning": lambda: [assertion(nbf="now")],
    "nested": lambda: [f"{_base64(b'[' * 12_000).decode()}.e30.AAAA"],
    "long": lambda: [assertion(filler="x" * 20_000)],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_anybody_could_have_sent_is_refused(site: Site, name: str) -> None:
    refused = site.ask(*WRONG[name]())
    assert refused.status_code == 403
    assert refused.json()["error"] == "access_denied"
    assert "www-authenticate" not in refused.headers


def test_who_was_kept_out_is_in_the_audit_log(site: Site) -> None:
    before = len(events_in(site.server.output()))
    for assertions in ([], [assertion(STRANGERS_KEY)], [assertion(), assertion()]):
        site.ask(*assertions)
    told = [{name: event[name] for name in event if name != "timestamp"} for event in events_in(site.server.output())]
    of_all = {"logger": "mcp_holdfast.audit", "event": "assertion_refused", "result": "refused", "address": "127.0.0.1"}
    assert told[before:] == [{**of_all, "reason": reason} for reason in ("missing", "not_good", "several")]


def test_a_machine_that_was_kept_out_is_there_too(site: Site) -> None:
    site.ask(assertion(), token=made_up_token())
    event = events_in(site.server.output())[-1]
    assert (event["event"], event["reason"], event["address"]) == ("token_refused", "unknown", "127.0.0.1")


@pytest.mark.parametrize(
    "path", ["/", "/authorize", "/.well-known/oauth-protected-resource/mcp", "/livez/", "/readyz/x"]
)
def test_every_other_path_is_closed_too(site: Site, path: str) -> None:
    assert site.ask(path=path).status_code == 403
    assert site.ask(assertion(), path=path).status_code in {307, 404}


@pytest.mark.parametrize("host", [OTHER_HOST, "127.0.0.2"])
def test_every_host_is_closed(site: Site, host: str) -> None:
    assert site.ask(host=host).status_code == 403
    assert site.ask(assertion(), host=host).status_code == 200


def test_who_looks_after_the_server_needs_no_assertion(site: Site) -> None:
    assert [site.ask(path=path).status_code for path in ("/livez", "/readyz")] == [200, 200]


def test_metrics_have_a_token_of_their_own(site: Site) -> None:
    assert site.ask(path="/metrics").status_code == 401
    assert site.ask(assertion(), path="/metrics").status_code == 401


def test_it_is_a_second_gate_and_no_login(site: Site) -> None:
    refused = site.ask(assertion(), token=made_up_token())
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]


def test_new_keys_of_the_team_are_learned(site: Site) -> None:
    site.cloudflare.serve(CERTS, keys(NEXT_KEY, KEY))
    assert site.ask(assertion(NEXT_KEY)).status_code == 200


def test_no_assertion_is_in_the_log(site: Site) -> None:
    sent = assertion()
    site.ask(sent)
    site.ask(assertion(STRANGERS_KEY))
    assert sent.split(".")[0] not in site.server.output()
    assert Path(site.server.log).stat().st_size > 0
