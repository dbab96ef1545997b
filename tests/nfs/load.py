"""Clients that sign in, call and refresh at several replicas, and remember everything that was acknowledged."""

import random
import ssl
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import httpx

from harness.journeys import Lost, ProxyJourney
from harness.load_balancer import LoadBalancer
from harness.oauth import OAuthClient
from harness.patience import patiently
from harness.proxy_login import ProxyPerson
from harness.waiting import HANGS_AFTER, eventually
from nfs.replica import PUBLIC_URL

GIVES_UP_AFTER = httpx.Timeout(30.0, connect=3.0)
"""Then a client repeats a request."""

PAUSE = 0.02
STEPS = 10


class Journey(ProxyJourney):
    """Any replica answers each request, so a call is the one that begins an MCP session."""

    def call(self) -> None:
        self._expect(self.client.call, 200)


class Caller(threading.Thread):
    """One client program after another with its person, all of whose sessions go on, until it is told to stop.

    `lost` says why a session, sign-in or registration could not be brought to an end or went on: a person would have to
    sign in again.
    """

    def __init__(self, urls: Sequence[str], number: int) -> None:
        super().__init__(daemon=True)
        self.done: Counter[str] = Counter()
        self.lost: list[str] = []
        self.journeys: list[Journey] = []
        self.stopping = threading.Event()
        self.signed_in = threading.Event()
        self._number = number
        self._random = random.Random(number)
        self._balancer = LoadBalancer(urls, number)

    @property
    def outcomes(self) -> Counter[str]:
        return self._balancer.outcomes

    @property
    def steps(self) -> int:
        return self.done["call"] + self.done["refresh"]

    def run(self) -> None:
        counting = {"request": [self._count]}
        with httpx.Client(
            base_url=PUBLIC_URL, transport=self._balancer, timeout=GIVES_UP_AFTER, event_hooks=counting
        ) as http:
            while not self.stopping.wait(PAUSE):
                if not self.journeys:
                    self._sign_in(http)
                else:
                    self._go_on(http)
                self._balancer.choose_next()

    def _go_on(self, http: httpx.Client) -> None:
        step = self._random.choices(["call", "refresh", "sign in"], [6, 3, 1])[0]
        if step == "sign in":
            self._sign_in(http)
        else:
            journey = self._random.choice(self.journeys)
            self._take(journey, step)

    def _sign_in(self, http: httpx.Client) -> None:
        name = f"caller-{self._number}-client-{len(self.journeys) + len(self.lost)}"
        journey = Journey(http, name, person=ProxyPerson(name, quick=True, http=self._browser()))
        self.journeys.append(journey)
        steps = list(journey.steps)
        if self._take(journey, *steps[: steps.index("call")]):
            self.signed_in.set()

    def _browser(self) -> httpx.Client:
        """With cookies of its own; it speaks plain HTTP only and keeps no connection to the identity provider."""
        return httpx.Client(
            mounts={PUBLIC_URL: self._balancer},
            timeout=GIVES_UP_AFTER,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def _take(self, journey: Journey, *steps: str) -> bool:
        for step in steps:
            try:
                journey.steps[step]()
            except (Lost, TimeoutError, httpx.HTTPError, AssertionError) as error:
                self.lost.append(f"{step}: {error}")
                self.journeys.remove(journey)
                return False
            self.done[step] += 1
        return True

    def _count(self, _: httpx.Request) -> None:
        self.done["requests"] += 1


@dataclass
class Load:
    """What callers do in a block."""

    callers: list[Caller]

    @property
    def done(self) -> Counter[str]:
        return sum((caller.done for caller in self.callers), Counter())

    @property
    def outcomes(self) -> Counter[str]:
        """What became of requests that were not simply answered (harness.load_balancer)."""
        return sum((caller.outcomes for caller in self.callers), Counter())

    @property
    def lost(self) -> list[str]:
        return [reason for caller in self.callers for reason in caller.lost]

    def goes_on(self) -> None:
        """Wait until every caller has come some steps further."""
        goals = [caller.steps + STEPS for caller in self.callers]
        eventually(lambda: [caller.steps for caller in self.callers], lambda steps: _reached(steps, goals))

    def sessions(self) -> Iterator[Journey]:
        for caller in self.callers:
            yield from caller.journeys


def _reached(steps: list[int], goals: list[int]) -> bool:
    return all(step >= goal for step, goal in zip(steps, goals, strict=True))


@contextmanager
def under_load(urls: Sequence[str], callers: int) -> Iterator[Load]:
    """Let callers work during the block, each of which has signed in; afterwards they have ended."""
    load = Load([Caller(urls, number) for number in range(callers)])
    try:
        for caller in load.callers:
            caller.start()
        for caller in load.callers:
            assert caller.signed_in.wait(HANGS_AFTER), f"nobody could sign in: {caller.lost}"
        yield load
    finally:
        for caller in load.callers:
            caller.stopping.set()
        for caller in load.callers:
            caller.join(HANGS_AFTER)
    assert not any(caller.is_alive() for caller in load.callers)


def lost_afterwards(sessions: Iterable[Journey], urls: Sequence[str]) -> list[str]:
    """What of the acknowledged sign-ins, refreshes and registrations is not good at each of the replicas."""
    with ThreadPoolExecutor(len(urls)) as threads:
        return [problem for problems in threads.map(partial(_problems, urls=urls), sessions) for problem in problems]


def _problems(session: Journey, urls: Sequence[str]) -> list[str]:
    problems = []
    for url in urls:
        with httpx.Client(base_url=url, timeout=GIVES_UP_AFTER) as http:
            client = OAuthClient(http, session.client.client_id, tokens=session.client.tokens)
            problems += [f"{session.name} at {url}: {problem}" for problem in _not_good(client, session.name)]
            session.client.tokens = client.tokens
    return problems


def _not_good(client: OAuthClient, subject: str) -> Iterator[str]:
    if (answer := patiently(client.authorize)).status_code != httpx.codes.FOUND:
        yield f"registration: {answer.status_code} {answer.text}"
    answer = patiently(lambda: client.call_tool("whoami"))
    if answer.status_code != httpx.codes.OK or f'"subject":"{subject}"' not in answer.text:
        yield f"access token: {answer.status_code} {answer.text}"
    refresh_token = client.tokens["refresh_token"]
    answer = patiently(lambda: client.refresh(refresh_token))
    if answer.status_code != httpx.codes.OK:
        yield f"refresh token: {answer.status_code} {answer.text}"
