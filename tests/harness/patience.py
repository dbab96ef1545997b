"""Repeat a request as real clients do: after a broken connection and after "later"."""

import time
from collections.abc import Callable

import httpx

LATER = 503


def patiently(request: Callable[[], httpx.Response], within: float = 90) -> httpx.Response:
    """Send a request until it gets an answer other than 503; waits as long as Retry-After says, two seconds at most."""
    deadline = time.monotonic() + within
    while True:
        pause = 0.1
        try:
            response = request()
        except httpx.TransportError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {within} s") from error
        else:
            if response.status_code != LATER or time.monotonic() > deadline:
                return response
            pause = min(2.0, float(response.headers.get("retry-after", pause)))
        time.sleep(pause)
