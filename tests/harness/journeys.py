"""What a client and its person do from the first registration to the end of the session, step by step.

Each step is repeated as real clients and people do until it is answered, so that a server may die in any of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import httpx

from harness.oauth import REDIRECT_URI, OAuthClient, Person
from harness.patience import patiently
from harness.proxy_login import ProxyPerson
from harness.server import PIN

Step = Callable[[], httpx.Response]


class Lost(Exception):
    """A step that ended the session, or that could not be brought to an end: the person would have to sign in again."""


@dataclass
class LocalJourney:
    """Through the built-in login."""

    http: httpx.Client
    name: str
    client: OAuthClient = field(init=False)
    page: str = ""
    code: str = ""

    def __post_init__(self) -> None:
        self.client = OAuthClient(self.http)

    @property
    def steps(self) -> dict[str, Callable[[], None]]:
        return {
            "register": self.register,
            "authorize": self.authorize,
            "consent": self.consent,
            "redeem": self.redeem,
            "call": self.call,
            "refresh": self.refresh,
            "revoke": self.revoke,
        }

    def register(self) -> None:
        self._expect(lambda: self.client.register(client_name=self.name), 201)

    def authorize(self) -> None:
        self.page = self._expect(self.client.authorize, 302).headers["location"]

    def consent(self) -> None:
        person = Person(self.http)
        approved = self._expect(lambda: person.approve(self.page, PIN), 303)
        location = approved.headers["location"]
        assert location.startswith(REDIRECT_URI)
        self.code = _code_in(location)

    def redeem(self) -> None:
        self._expect(lambda: self.client.redeem(self.code), 200)

    def call(self) -> None:
        self._expect(lambda: self.client.call_tool("whoami"), 200)

    def refresh(self) -> None:
        # The token is kept until its successor is here, as clients do.
        old = self.client.tokens["refresh_token"]
        self._expect(lambda: self.client.refresh(old), 200)

    def revoke(self) -> None:
        token = self.client.tokens["refresh_token"]
        self._expect(lambda: self.client.revoke(token), 200)

    def is_over(self) -> bool:
        """Whether both tokens are refused."""
        called = patiently(self.client.call)
        refreshed = patiently(lambda: self.client.refresh(self.client.tokens["refresh_token"]))
        return called.status_code == 401 and refreshed.json().get("error") == "invalid_grant"

    def _expect(self, step: Step, status: int) -> httpx.Response:
        response = patiently(step)
        if response.status_code != status:
            raise Lost(f"{response.request.url.path}: {response.status_code} {response.text[:200]}")
        return response


@dataclass
class ProxyJourney(LocalJourney):
    """Through an identity provider and FastMCP's proxy for it."""

    person: ProxyPerson = field(default_factory=lambda: ProxyPerson(quick=True))
    callback_url: str = ""
    began_again: int = 0

    @property
    def steps(self) -> dict[str, Callable[[], None]]:
        steps = super().steps
        before = {name: steps.pop(name) for name in ("register", "authorize", "consent")}
        return {**before, "callback": self.callback, **steps}

    def consent(self) -> None:
        def allow() -> httpx.Response:
            opened = self.person.open(self.page)
            return opened if not opened.is_success else self.person.allow(opened)

        self.callback_url = self.person.sign_in(self._expect(allow, 302).headers["location"])

    def callback(self) -> None:
        """Come back from the identity provider; where that page cannot be reloaded, ask the client to begin again."""
        answer = patiently(lambda: self.person.bring_back(self.callback_url))
        if answer.status_code != 302:
            if self.began_again:
                raise Lost(f"callback: {answer.status_code} twice")
            self.began_again += 1
            self.authorize()
            self.consent()
            self.callback()
            return
        self.code = _code_in(answer.headers["location"])


def _code_in(location: str) -> str:
    assert location.startswith(REDIRECT_URI), location
    return parse_qs(urlsplit(location).query)["code"][0]
