"""An OAuth client of a few lines and the person at the sign-in page, for tests that look at single requests."""

import base64
import hashlib
import html
import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import httpx

from harness.patience import patiently
from harness.server import PIN

REDIRECT_URI = "http://localhost:18999/callback"


class Approves(Protocol):
    """Somebody who signs in: with the PIN, or at an identity provider."""

    def approve(self, page: str) -> httpx.Response:
        """Start from where /authorize redirects to; returns the redirect back to the client."""


@dataclass(frozen=True)
class Endpoints:
    """Where the authorization server is asked; Holdfast's own unless a client found others in its metadata."""

    registration: str = "/register"
    authorization: str = "/authorize"
    token: str = "/token"
    revocation: str = "/revoke"


@dataclass
class OAuthClient:
    """A public client with PKCE (RFC 7636). Without a `person` of its own, the one who knows the PIN signs in."""

    http: httpx.Client
    client_id: str = ""
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    tokens: dict[str, Any] = field(default_factory=dict)
    person: Approves | None = None
    endpoints: Endpoints = Endpoints()

    def register(self, **metadata: Any) -> httpx.Response:
        body = {
            "client_name": "A test client",
            "redirect_uris": [REDIRECT_URI],
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            **metadata,
        }
        response = self.http.post(self.endpoints.registration, json=body)
        if response.is_success:
            self.client_id = response.json()["client_id"]
        return response

    @property
    def challenge(self) -> str:
        """What /authorize is told of the verifier (RFC 7636, section 4.2)."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()

    def authorize(self, **parameters: str) -> httpx.Response:
        return self.http.get(self.authorization_url(**parameters))

    def authorization_url(self, **parameters: str) -> str:
        """What the client opens a browser at."""
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT_URI,
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
            "state": "a state",
            **parameters,
        }
        return str(self.http.build_request("GET", self.endpoints.authorization, params=query).url)

    def redeem(self, code: str, **parameters: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self.client_id,
            "redirect_uri": REDIRECT_URI,
            "code_verifier": self.verifier,
            **parameters,
        }
        return self._keep(self.http.post(self.endpoints.token, data=form))

    def refresh(self, refresh_token: str = "", **parameters: str) -> httpx.Response:
        return self._keep(self.http.post(self.endpoints.token, data=self.refresh_request(refresh_token, **parameters)))

    def refresh_request(self, refresh_token: str = "", **parameters: str) -> dict[str, str]:
        return {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token or self.tokens["refresh_token"],
            "client_id": self.client_id,
            **parameters,
        }

    def revoke(self, token: str, **parameters: str) -> httpx.Response:
        return self.http.post(
            self.endpoints.revocation, data={"token": token, "client_id": self.client_id, **parameters}
        )

    def sign_in(self) -> "OAuthClient":
        """Register, have the owner approve, and redeem the code."""
        patiently(self.register).raise_for_status()
        code = self.code()
        patiently(lambda: self.redeem(code)).raise_for_status()
        return self

    def code(self) -> str:
        """The code that a person who signs in gets for us."""
        person = self.person or Person(self.http)
        return answer_parameters(person.approve(patiently(self.authorize).headers["location"]))["code"]

    def call(self, access_token: str = "") -> httpx.Response:
        """The first request of an MCP session."""
        parameters = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        return self._request("initialize", parameters, access_token)

    def call_tool(self, name: str) -> httpx.Response:
        """Open a session, if the server has any, and call a tool without arguments in it."""
        opened = self.call()
        if not opened.is_success:
            return opened
        session = {name: value for name, value in opened.headers.items() if name == "mcp-session-id"}
        return self._request("tools/call", {"name": name, "arguments": {}}, **session)

    def _request(self, method: str, parameters: Any, access_token: str = "", **headers: str) -> httpx.Response:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        headers["Authorization"] = f"Bearer {access_token or self.tokens['access_token']}"
        headers["Accept"] = "application/json, text/event-stream"
        return self.http.post("/mcp", json=message, headers=headers)

    def _keep(self, response: httpx.Response) -> httpx.Response:
        if response.is_success:
            self.tokens = response.json()
        return response


@dataclass
class Person:
    """Looks at the sign-in page and answers it, as a browser without JavaScript would."""

    http: httpx.Client

    def open(self, page: str) -> httpx.Response:
        return self.http.get(page)

    def answer(self, page: str, **fields: str) -> httpx.Response:
        opened = self.open(page)
        opened.raise_for_status()
        return self.http.post("/signin", data={**hidden_fields(opened.text), **fields})

    def approve(self, page: str, pin: str = PIN) -> httpx.Response:
        return self.answer(page, answer="approve", pin=pin)

    def deny(self, page: str) -> httpx.Response:
        return self.answer(page, answer="deny")


def hidden_fields(page: str) -> dict[str, str]:
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return {name: html.unescape(value) for name, value in fields}


def answer_parameters(response: httpx.Response) -> dict[str, str]:
    """What the redirect back to the client carries."""
    assert response.status_code in {302, 303}, response.text
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()}


def tool_result(response: httpx.Response) -> dict[str, Any]:
    """What a tool answered, as structured content."""
    response.raise_for_status()
    lines = response.text.splitlines()
    (message,) = (json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))
    found: dict[str, Any] = message["result"]["structuredContent"]
    return found
