"""Where the workers count together, and how the sessions are counted."""

import asyncio
import subprocess
import sys
import tempfile

import pytest
from pydantic import SecretStr

from harness.scraping import Scrape
from mcp_holdfast.http import measuring
from mcp_holdfast.http.measuring import SessionCount
from mcp_holdfast.serve import counting
from mcp_holdfast.settings import ConfigurationError, Settings


def test_a_server_that_has_no_temporary_directory_says_what_to_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    with pytest.raises(ConfigurationError) as raised:
        counting(Settings(metrics_token=SecretStr("t" * 32)))
    (problem,) = raised.value.problems
    assert str(problem) == (
        "HOLDFAST_METRICS_TOKEN: needs a temporary directory, and none can be written: No such file or directory. "
        "Mount one, as --tmpfs /tmp does, or remove it"
    )


FORKING = """
import os, sys
from mcp_holdfast import metrics

directory = metrics.made_directory()
with metrics.shared_by_processes(directory):
    metrics.count_reuse("refresh_token")
    child = os.fork()
    metrics.count_reuse("refresh_token")
    if child == 0:
        sys.exit()
    os.waitpid(child, 0)
    print(metrics.exposition().decode())
print(directory.exists())
"""


def test_a_process_that_was_forked_counts_too_and_leaves_the_directory_there_when_it_ends() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], check=True, capture_output=True, text=True)
    assert 'holdfast_reuse_detected_total{grant="refresh_token"} 3.0\n' in done.stdout
    assert done.stdout.endswith("\nFalse\n")


class Counted:
    """A store that is counted."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()
        self.times = 0
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.times += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return self.times


class TestCountingTheSessions:
    @pytest.fixture
    def counted(self) -> Counted:
        return Counted()

    @pytest.fixture
    def sessions(self, counted: Counted) -> SessionCount:
        return SessionCount(counted)

    async def test_is_not_done_again_at_once(self, sessions: SessionCount, counted: Counted) -> None:
        for _ in range(3):
            await sessions.refresh()
        assert counted.times == 1
        assert Scrape.here().value("sessions") == 1

    async def test_is_done_again_later(
        self, sessions: SessionCount, counted: Counted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(measuring, "COUNTED_AGAIN_AFTER", 0.0)
        await sessions.refresh()
        await sessions.refresh()
        assert Scrape.here().value("sessions") == 2

    async def test_does_not_wait_for_a_store_that_hangs_and_asks_it_once(
        self, sessions: SessionCount, counted: Counted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(measuring, "COUNTED_AGAIN_AFTER", 0.0)
        monkeypatch.setattr(measuring, "COUNTED_WITHIN", 0.01)
        counted.answers.clear()
        for _ in range(3):
            await sessions.refresh()
        assert counted.times == 1
        counted.answers.set()

    async def test_leaves_the_number_where_the_store_fails(
        self, sessions: SessionCount, counted: Counted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(measuring, "COUNTED_AGAIN_AFTER", 0.0)
        await sessions.refresh()
        counted.error = OSError("EIO")
        await sessions.refresh()
        assert (counted.times, Scrape.here().value("sessions")) == (2, 1)
