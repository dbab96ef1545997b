"""Try a test again that failed while others had the processors of this machine; pytest tells each that it tried again.

A server gives up a store that is silent for three seconds, and a test of that waits for less. Where the machine stood
still for so long, that test says nothing of the server. Where it did not, a failure is one.
"""

import os
from pathlib import Path

import pytest

TRIES = 3
LARGEST_SHARE = 0.05
"""Of the time of all processors, while the test ran."""

STATISTICS = Path("/proc/stat")
STEAL = 8
"""The field of the line of all processors that has what the hypervisor gave to others (proc_stat(5)), in ticks."""


class Stolen:
    """True if others had more than LARGEST_SHARE of the processors' time since `begin`."""

    def begin(self) -> None:
        self._uptime, self._steal = _uptime(), _steal()

    def __bool__(self) -> bool:
        elapsed = (_uptime() - self._uptime) * (os.cpu_count() or 1)
        return _steal() - self._steal > LARGEST_SHARE * elapsed


stolen = Stolen()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.flaky(reruns=TRIES - 1, condition=stolen))


def pytest_runtest_logstart() -> None:
    stolen.begin()


def _uptime() -> float:
    """In seconds."""
    return float(Path("/proc/uptime").read_text().split()[0])


def _steal() -> float:
    """In seconds."""
    return int(STATISTICS.read_text().split()[STEAL]) / os.sysconf("SC_CLK_TCK")
