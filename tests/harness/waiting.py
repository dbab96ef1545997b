"""Wait for a condition instead of for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

HANGS_AFTER = 600.0
"""In seconds. What has not come by then hangs; until then no test says how fast anything is.

A machine whose processors others use, too, stands still for minutes.
"""


def eventually(observe: Callable[[], Value], expected: Callable[[Value], bool], within: float = HANGS_AFTER) -> Value:
    """Observe until the observation is as expected and return it."""
    deadline = time.monotonic() + within
    while not expected(value := observe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {value!r} after {within} s")
        time.sleep(0.05)
    return value
