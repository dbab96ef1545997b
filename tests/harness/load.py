"""Clients that call, refresh and sign in without pause, and know of each answer whether a client may get it."""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

from harness.journeys import LocalJourney, Lost, ProxyJourney
from harness.proxy_login import ProxyPerson, browser
from harness.server import ServerProcess
from harness.waiting import HANGS_AFTER

PAUSE = 0.05
ANSWERED_WITHIN = 30.0
NO_ANSWER = "no answer"
CALL_REFRESH_SIGN_IN = (6, 3, 1)
ONLY_CALL = (1, 0, 0)

Seen = Counter[tuple[str, str]]


class Worker(threading.Thread):
    """Clients of one connection, all of which sign in once, call and refresh; a step is repeated until it is answered.

    `seen` counts the answers by endpoint and status, `wrong` holds those that no client may get.
    """

    def __init__(self, server: ServerProcess, journey: type[LocalJourney], number: int) -> None:
        super().__init__(daemon=True)
        self.seen: Seen = Counter()
        self.wrong: list[str] = []
        self.signed_in = threading.Event()
        self.stopping = threading.Event()
        self.journeys: list[LocalJourney] = []
        self._server = server
        self._journey = journey
        self._random = random.Random(number)
        # Some only call: the others soon wait for the end of a refresh.
        self._weights = CALL_REFRESH_SIGN_IN if number % 4 else ONLY_CALL
        self._hooks: dict[str, list[Callable[..., Any]]] = {"request": [self._ask], "response": [self._judge]}
        self._http = httpx.Client(base_url=server.url, timeout=ANSWERED_WITHIN, event_hooks=self._hooks)

    def run(self) -> None:
        try:
            self._sign_in()
            self.signed_in.set()
            while not self.stopping.wait(PAUSE):
                self._random.choices([self._call, self._refresh, self._sign_in], self._weights)[0]()
            for journey in list(self.journeys):
                self._take(journey, journey.call, journey.refresh, journey.call)
        finally:
            self._http.close()

    def _call(self) -> None:
        self._take(journey := self._any(), journey.call)

    def _refresh(self) -> None:
        self._take(journey := self._any(), journey.refresh)

    def _any(self) -> LocalJourney:
        return self._random.choice(self.journeys)

    def _sign_in(self) -> None:
        journey = self._journey(self._http, f"Client {len(self.journeys)} of {self.name}")
        if isinstance(journey, ProxyJourney):
            journey.person = ProxyPerson(quick=True, http=browser())
            journey.person.http.event_hooks = self._hooks
        self.journeys.append(journey)
        steps = journey.steps
        before_the_first_call = list(steps)[: list(steps).index("call")]
        self._take(journey, *(steps[name] for name in before_the_first_call))

    def _take(self, journey: LocalJourney, *steps: Callable[[], None]) -> None:
        try:
            for step in steps:
                step()
        except (Lost, TimeoutError, httpx.HTTPError, AssertionError) as error:
            self.wrong.append(f"lost a session: {error}")
            self.journeys.remove(journey)
            if not self.journeys:
                self._sign_in()

    def _ask(self, request: httpx.Request) -> None:
        if (endpoint := self._endpoint(request)) is not None:
            self.seen[endpoint, NO_ANSWER] += 1

    def _judge(self, response: httpx.Response) -> None:
        endpoint, status = self._endpoint(response.request), response.status_code
        if endpoint is None:
            return
        response.read()
        self.seen[endpoint, NO_ANSWER] -= 1
        self.seen[endpoint, str(status)] += 1
        if status == 401 or (status >= 500 and status != 503) or "invalid_grant" in response.text:
            self.wrong.append(f"{endpoint}: {status} {response.text[-300:]}")

    def _endpoint(self, request: httpx.Request) -> str | None:
        """What is asked for; None where it is asked of somebody else."""
        if request.url.port != self._server.port:
            return None
        path = request.url.path
        if path != "/token":
            return path
        return f"{path} refresh" if b"grant_type=refresh_token" in request.content else f"{path} code"


def finish(workers: list[Worker]) -> None:
    """Let every client call and refresh once more."""
    time.sleep(1)
    for worker in workers:
        worker.stopping.set()
    deadline = time.monotonic() + HANGS_AFTER
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))


def tracebacks(server: ServerProcess) -> list[str]:
    """The lines of the log that are followed by a traceback."""
    return re.findall(r"^(.*)\nTraceback", server.output(), re.MULTILINE)


def answers(workers: list[Worker]) -> Seen:
    return +sum((worker.seen for worker in workers), Counter())


def unanswered(workers: list[Worker]) -> dict[str, int]:
    """How many requests to which endpoint were given up, after ANSWERED_WITHIN seconds or with the connection."""
    return {endpoint: count for (endpoint, status), count in answers(workers).items() if status == NO_ANSWER}


def table(workers: list[Worker]) -> str:
    """One line an endpoint: how often it answered with which status."""
    seen = answers(workers)
    sessions = sum(len(worker.journeys) for worker in workers)
    lost = sum(wrong.startswith("lost") for worker in workers for wrong in worker.wrong)
    lines = [f"    {sessions} sessions go on, {lost} were lost"]
    for endpoint in sorted({endpoint for endpoint, _ in seen}):
        counts = [f"{status}: {count:<7}" for (path, status), count in sorted(seen.items()) if path == endpoint]
        lines.append(f"    {endpoint:16}{''.join(counts)}".rstrip())
    return "\n".join(lines)
