"""Clients that do everything there is to do, at an even pace, and note what it took and what went wrong."""

import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping

import httpx

from bench.soak.servers import Soaked
from harness.oauth import OAuthClient, Person, answer_parameters

THREADS = 3
CLIENTS_OF_A_THREAD = 4
PAUSE = 0.5
"""Mean time in seconds that each thread of clients waits between two steps."""

GIVEN_UP_AFTER = 60.0
LATER = 503
BEFORE_REPEATING = 0.25

CALL, REFRESH, REGISTER, REVOKE = 12, 4, 2, 1
"""How often each step is taken, against the others; a client that is not signed in signs in first."""


class Notes:
    """What all clients of a server have seen.

    `wrong` are the answers that no client may get, and `later` how often there was none, or 503, in a restart.
    """

    def __init__(self, soaked: Soaked) -> None:
        self.wrong: list[str] = []
        self.later = 0
        self.answers: dict[str, int] = defaultdict(int)
        self._soaked = soaked
        self._taken: dict[str, list[float]] = defaultdict(list)
        self._lock = threading.Lock()

    def answered(self, kind: str, seconds: float) -> None:
        with self._lock:
            self.answers[kind] += 1
            self._taken[kind].append(seconds)

    def not_answered(self, kind: str, how: str) -> None:
        """503 or no answer at all, just now."""
        with self._lock:
            if self._soaked.was_away(time.monotonic()):
                self.later += 1
            else:
                self.wrong.append(f"{kind}: {how}, and no restart explains it")

    def went_wrong(self, what: str) -> None:
        with self._lock:
            self.wrong.append(what)

    def taken(self) -> Mapping[str, list[float]]:
        """By the kind of request, the seconds that each took since this was asked for last."""
        with self._lock:
            taken, self._taken = self._taken, defaultdict(list)
            return taken


class Caller(OAuthClient):
    """A client that keeps one MCP session for its calls. `opened_after` tells how many restarts there were before."""

    mcp_session: str = ""
    opened_after: int = 0

    def initialize(self) -> httpx.Response:
        opened = self.call()
        self.mcp_session = opened.headers.get("mcp-session-id", "")
        return opened

    def call_in_session(self, tool: str) -> httpx.Response:
        session = {"mcp-session-id": self.mcp_session}
        return self._request("tools/call", {"name": tool, "arguments": {}}, **session)

    def close(self) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}", "mcp-session-id": self.mcp_session}
        return self.http.delete("/mcp", headers=headers)


class Clients(threading.Thread):
    """A few registered clients, which one thread lets take their steps in random order until it is told to stop."""

    def __init__(self, soaked: Soaked, notes: Notes, number: int) -> None:
        super().__init__(daemon=True, name=f"clients {number} of {soaked.name}")
        self.stopping = threading.Event()
        self._soaked = soaked
        self._notes = notes
        self._random = random.Random(number)
        self._http = httpx.Client(base_url=soaked.server.url, timeout=30)
        self._callers = [Caller(self._http) for _ in range(CLIENTS_OF_A_THREAD)]

    def run(self) -> None:
        steps = [self._call, self._refresh, self._register_a_stranger, self._revoke]
        with self._http:
            for caller in self._callers:
                self._try(self._register, caller)
            while not self.stopping.wait(self._random.uniform(0, 2 * PAUSE)):
                caller = self._random.choice(self._callers)
                (step,) = self._random.choices(steps, [CALL, REFRESH, REGISTER, REVOKE])
                self._try(step if caller.tokens else self._sign_in, caller)
            for caller in self._callers:
                if caller.tokens:
                    self._try(self._refresh, caller)

    def _try(self, step: Callable[[Caller], None], caller: Caller) -> None:
        try:
            step(caller)
        except (AssertionError, httpx.HTTPError, LookupError, ValueError) as error:
            self._notes.went_wrong(f"{step.__name__}: {error!r}")
            caller.tokens, caller.mcp_session = {}, ""

    def _register(self, caller: Caller) -> None:
        # Two that register alike from one machine are one client.
        self._answered("register", lambda: caller.register(client_name=f"Client {uuid.uuid4()}"), 201)

    def _register_a_stranger(self, _: Caller) -> None:
        self._register(Caller(self._http))

    def _sign_in(self, caller: Caller) -> None:
        page = self._answered("authorize", caller.authorize, 302).headers["location"]
        approved = self._answered("sign in", lambda: Person(self._http).approve(page), 303)
        code = answer_parameters(approved)["code"]
        self._answered("redeem", lambda: caller.redeem(code), 200)

    def _call(self, caller: Caller) -> None:
        if not caller.mcp_session:
            caller.opened_after = len(self._soaked.restarts)
            self._answered("open", caller.initialize, 200)
        answer = self._answered("call", lambda: caller.call_in_session("whoami"), 200, 404)
        if answer.status_code == 404:
            self._session_is_gone(caller)
        elif caller.client_id not in answer.text:
            self._notes.went_wrong(f"call: {answer.text[:200]}")

    def _session_is_gone(self, caller: Caller) -> None:
        if not self._soaked.is_away and caller.opened_after == len(self._soaked.restarts):
            self._notes.went_wrong("call: 404 for an MCP session, and no restart explains it")
        caller.mcp_session = ""

    def _refresh(self, caller: Caller) -> None:
        # The token is kept until its successor is here, as clients do.
        old = caller.tokens["refresh_token"]
        self._answered("refresh", lambda: caller.refresh(old), 200)

    def _revoke(self, caller: Caller) -> None:
        if caller.mcp_session:
            self._answered("close", caller.close, 200, 404)
        token = caller.tokens["refresh_token"]
        self._answered("revoke", lambda: caller.revoke(token), 200)
        caller.tokens, caller.mcp_session = {}, ""

    def _answered(self, kind: str, request: Callable[[], httpx.Response], *expected: int) -> httpx.Response:
        """Repeat a request until it is answered.

        Raises:
            AssertionError: by an answer that no client may get, or not for a minute.

        """
        deadline = time.monotonic() + GIVEN_UP_AFTER
        while True:
            began = time.monotonic()
            status, response = _ask(request)
            if response is not None and response.status_code != LATER:
                self._notes.answered(kind, time.monotonic() - began)
                assert response.status_code in expected, f"{status}: {response.text[:200]}"
                return response
            self._notes.not_answered(kind, status)
            assert began < deadline, f"still {status} after {GIVEN_UP_AFTER:g} s"
            time.sleep(BEFORE_REPEATING)


def _ask(request: Callable[[], httpx.Response]) -> tuple[str, httpx.Response | None]:
    """What became of a request, for people; and the answer, if there was one."""
    try:
        response = request()
    except httpx.HTTPStatusError as error:
        response = error.response
    except httpx.TransportError as error:
        return repr(error), None
    return str(response.status_code), response


def start_clients(soaked: Soaked, notes: Notes) -> list[Clients]:
    clients = [Clients(soaked, notes, number) for number in range(THREADS)]
    for one in clients:
        one.start()
    return clients


def stop_clients(clients: list[Clients]) -> None:
    """Let each sign-in be refreshed once more.

    Raises:
        TimeoutError: some do not come to an end.

    """
    for one in clients:
        one.stopping.set()
    for one in clients:
        one.join(2 * GIVEN_UP_AFTER)
        if one.is_alive():
            raise TimeoutError(f"{one.name} do not end")
