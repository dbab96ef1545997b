"""How many file operations each request costs: each may be a round trip to a file server."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from conftest import Say
from harness.file_counts import FileCounts
from harness.identity_provider import IdentityProvider
from harness.journeys import LocalJourney, ProxyJourney
from harness.proxy_login import proxy_environment
from harness.server import Server
from harness.waiting import HANGS_AFTER

DOCUMENT = Path(__file__).parents[2] / "docs/storage.md"
HEADING = "| request |"
COLUMNS = {
    "opened": ["open", "stat", "lstat"],
    "written": ["create"],
    "renamed, linked": ["rename", "replace", "link"],
    "removed": ["unlink", "remove"],
    "synced": ["fsync"],
}
LOGINS: dict[str, type[LocalJourney]] = {"built-in login": LocalJourney, "identity provider": ProxyJourney}

Count = Callable[[str], dict[str, Counter[str]]]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path_factory.mktemp("identity-provider")).start()
    yield provider
    provider.stop()


@pytest.fixture
def count(provider: IdentityProvider, tmp_path: Path) -> Count:
    """Tells what each step of a journey does to files, when another one has gone before: that makes collections."""

    def of(login: str) -> dict[str, Counter[str]]:
        counts = FileCounts(tmp_path / "operations.txt")
        server = Server(tmp_path / "data", tmp_path / "server.log", **counts.environment)
        if LOGINS[login] is ProxyJourney:
            server.environment |= proxy_environment(provider, server.url)
        server.start()
        try:
            with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
                for number in range(2):
                    found = counts.of_steps(LOGINS[login](http, f"Client {number}"))
            return found
        finally:
            server.stop()

    return of


@pytest.mark.parametrize("login", LOGINS)
def test_a_request_costs_as_many_file_operations_as_the_documents_say(login: str, count: Count, say: Say) -> None:
    found = count(login)
    rows = {f"{name}, {login}": row_of(operations) for name, operations in found.items()}
    for name, row in rows.items():
        say("file operations", f"request: {', '.join(COLUMNS)}", f"{name}: {row}")
    assert documented(login) == rows, {name: dict(operations) for name, operations in found.items()}


def row_of(operations: Counter[str]) -> list[int]:
    operations = Counter(operations)
    known = [sum(operations.pop(operation, 0) for operation in column) for column in COLUMNS.values()]
    assert not operations, operations
    return known


def documented(login: str) -> dict[str, list[int]]:
    """What the table in docs/storage.md says of a login."""
    lines = iter(DOCUMENT.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(HEADING):
            break
    next(lines)
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = [int(cell) for cell in cells]
    return {name: row for name, row in rows.items() if name.endswith(login)}
