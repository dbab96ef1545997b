"""Clients that work without pause, through what a load balancer would be, while something is done to the servers."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import httpx

from harness.oauth import OAuthClient
from harness.patience import patiently


class LoadBalancer(httpx.BaseTransport):
    """Sends each request to the first of some servers that takes the connection."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = [httpx.URL(url) for url in urls]
        self._transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        *others, last = self._urls
        for url in others:
            try:
                return self._send(request, url)
            except httpx.ConnectError:
                continue
        return self._send(request, last)

    def _send(self, request: httpx.Request, url: httpx.URL) -> httpx.Response:
        request.url = request.url.copy_with(host=url.host, port=url.port)
        return self._transport.handle_request(request)

    def close(self) -> None:
        self._transport.close()


class Traffic:
    """Each client calls and refreshes in turn; `answers` counts the status of every final answer."""

    def __init__(self, clients: Sequence[OAuthClient]) -> None:
        self.answers: Counter[int] = Counter()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=[client], daemon=True) for client in clients]

    @contextmanager
    def flowing(self) -> Iterator[Self]:
        """Run inside the block, and until each client has got its last answer."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def _work(self, client: OAuthClient) -> None:
        while not self._over.is_set():
            for step in (client.call, client.call, client.refresh):
                self.answers[patiently(step).status_code] += 1
