"""Remembers every secret that goes over the connections of a client, in either direction."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus

import httpx

from harness.oauth import hidden_fields

SECRET_FIELDS = {
    *("access_token", "client_secret", "code", "code_verifier", "consent_token", "csrf_token", "id_token"),
    *("password", "pin", "refresh_token", "registration_access_token", "request", "state", "token", "txn_id"),
}
SHORTEST = 6
PAGES_OWN = frozenset({"csrf_token", "request", "state", "txn_id"})
"""What a page carries so that its form comes back with it; what is signed in there can be read."""


class Witness:
    """Its `watch` is for the event hooks of httpx; `errors` are the bodies of the server's answers that were errors."""

    def __init__(self, server: str) -> None:
        self._server = server
        self.secrets: dict[str, set[str]] = {}
        self.errors: list[str] = []

    def watch(self, response: httpx.Response) -> None:
        request = response.request
        for found in (request.url, httpx.URL(response.headers.get("location", ""))):
            self._note_all(dict(parse_qsl(found.query.decode())))
        self._note_all(_form_in(request))
        for header in ("authorization", "mcp-session-id"):
            self.note(header, request.headers.get(header, "").rpartition(" ")[2])
        for cookie in [*request.headers.get_list("cookie"), *response.headers.get_list("set-cookie")]:
            self.note("cookie", cookie.partition(";")[0].partition("=")[2])
        response.read()
        if response.headers.get("content-type", "").startswith("application/json"):
            self._note_all(_object_in(response.content))
        elif response.headers.get("content-type", "").startswith("text/html"):
            self._note_all(hidden_fields(response.text))
        if response.status_code >= 400 and str(request.url).startswith(self._server):
            self.errors.append(response.text)

    def note(self, kind: str, secret: str) -> None:
        if len(secret) >= SHORTEST:
            self.secrets.setdefault(kind, set()).add(secret)

    def told_in(self, text: str, *, but: frozenset[str] = frozenset()) -> set[tuple[str, str]]:
        """The kinds and forms of secrets that are in a text."""
        return {
            (kind, form)
            for kind, secrets in self.secrets.items()
            if kind not in but
            for secret in secrets
            for form, written in _forms_of(secret)
            if written in text
        }

    def _note_all(self, fields: Mapping[str, Any]) -> None:
        for name, value in fields.items():
            if name in SECRET_FIELDS and isinstance(value, str):
                self.note(name, value)


def _forms_of(secret: str) -> Iterator[tuple[str, str]]:
    yield "plain", secret
    yield "percent-encoded", quote(secret, safe="")
    yield "form-encoded", quote_plus(secret)
    yield "as in JSON", json.dumps(secret)[1:-1]
    for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
        # Wherever it stands in what was encoded; the characters at its ends are mixed with those of its neighbours.
        for before in range(3):
            encoded = encode(b"\0" * before + secret.encode()).decode().rstrip("=")
            yield f"{name} behind {before}", encoded[before and before + 1 : -1]
    yield "hexadecimal", secret.encode().hex()


def _form_in(request: httpx.Request) -> dict[str, Any]:
    try:
        body = request.content
    except httpx.RequestNotRead:
        return {}
    if request.headers.get("content-type", "").startswith("application/json"):
        return _object_in(body)
    return dict(parse_qsl(body.decode("utf-8", "replace")))


def _object_in(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
