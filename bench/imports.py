"""What a server imports until it is ready, and how long that takes, as CPython itself tells (-X importtime)."""

import re
from collections import defaultdict
from collections.abc import Mapping
from heapq import nlargest

TOLD = re.compile(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", re.MULTILINE)
"""Microseconds without those of what a module imports itself, and its name."""

PROFILED = {"PYTHONPROFILEIMPORTTIME": "1"}
"""The environment of a server that is to tell."""

MOST = 20


def imported(output: str) -> dict[str, float]:
    """The milliseconds of each top-level package, from what a server printed that was started with PROFILED."""
    packages: dict[str, float] = defaultdict(float)
    for microseconds, module in TOLD.findall(output):
        packages[module.partition(".")[0]] += int(microseconds) / 1000
    if not packages:
        raise RuntimeError(f"it has not told what it imports:\n{output}")
    return dict(packages)


def import_table(found: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """The packages that take longest in any of the servers."""
    longest = {package: max(of.get(package, 0.0) for of in found.values()) for package in set().union(*found.values())}
    rows = [["imported, ms by itself", *found]]
    rows += [
        [package, *(f"{of.get(package, 0):.0f}" for of in found.values())]
        for package in nlargest(MOST, longest, key=longest.__getitem__)
    ]
    rows.append(["all", *(f"{sum(of.values()):.0f}" for of in found.values())])
    return rows
