"""What all tests share: how they are spread over processes, and the tables that they end with."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from harness import authorities

ONE_AFTER_THE_OTHER = {
    "containers": ["container", "clients", "chaos/test_sigkill.py", "test_docs.py"],
    "machines": ["nfs"],
    "old servers": ["importers"],
    "logins": ["rfc"],
    "pages": ["pages"],
}
"""Tests that share an engine, a network or an environment; they begin first, since they take longest."""

Say = Callable[[str, str, str], None]

pytest_plugins = ["harness.steal"]


# What is imported and collected stays: nobody need look through it for garbage again and again.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage from now on, and only in what the tests leave."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest begin first."""
    order = list(ONE_AFTER_THE_OTHER)
    items.sort(key=lambda item: order.index(group) if (group := group_of(item.nodeid)) in order else len(order))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return Groups(config, log)


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # nothing is known of its type
    """Each file, or all files that share something, in one process; xdist's own groups do nothing in pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    name = nodeid.partition("::")[0].removeprefix("tests/")
    for group, members in ONE_AFTER_THE_OTHER.items():
        if any(name == member or name.startswith(f"{member}/") for member in members):
            return group
    return name


@pytest.fixture(scope="session", autouse=True)
def authorities_are_read_once() -> Iterator[None]:
    with authorities.read_once():
        yield


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Say:
    """Have a line printed at the end of all tests: the title of a table, a heading in it, and the line."""
    return lambda title, heading, line: record_property("said", [title, heading, line])


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory for one test that every user of this machine can look into; pytest closes its own at each start."""
    with TemporaryDirectory(prefix="holdfast-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    tables: dict[str, dict[str, list[str]]] = {}
    for title, heading, line in _said(terminalreporter):
        tables.setdefault(title, {}).setdefault(heading, []).append(line)
    for title, headings in sorted(tables.items()):
        terminalreporter.section(title)
        for heading, lines in sorted(headings.items()):
            for line in [*heading.splitlines(), *lines]:
                terminalreporter.line(line)


def _said(terminalreporter: pytest.TerminalReporter) -> Iterator[tuple[str, str, str]]:
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                yield from (tuple(value) for name, value in report.user_properties if name == "said")
