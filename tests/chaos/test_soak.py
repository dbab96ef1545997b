"""`make soak`, cut short: all of it works, and what it would judge in half an hour is judged rightly."""

import json
import math
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import httpx
import pytest
from bench.processes import proportional_bytes
from bench.soak.drawing import draw
from bench.soak.judging import MOST, SLOWED_BY, TOLERANCES, UNITS, verdicts
from bench.soak.load import Notes
from bench.soak.machine import CPU, STOLEN, WALL
from bench.soak.servers import RESTARTED, STEADY, AsProcess, Soaked, as_processes
from bench.soak.watching import Watched, watch

from harness.oauth import OAuthClient
from harness.server import Server
from harness.waiting import HANGS_AFTER

SECONDS = 10.0
RESTARTS = 2
EVERYTHING = {"register", "authorize", "sign in", "redeem", "open", "call", "refresh", "close", "revoke"}

BYTES_OF_A_HASH = 19 * 1024 * 1024
"""What Argon2 fills to check a PIN (`mcp_holdfast.auth.argon2`)."""

MINUTES = 30
LEVEL = 100.0
BY_NOISE = 0.01


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> list[Watched]:
    with as_processes(tmp_path_factory.mktemp("soak")) as servers:
        return watch(
            servers, seconds=SECONDS, restarts=RESTARTS, every=1, progress=print, is_enough=everything_happened
        )


def everything_happened(watched: Watched) -> bool:
    return watched.notes.answers.keys() >= EVERYTHING and UNITS.keys() <= watched.series.keys()


@pytest.fixture(scope="module")
def found(watched: list[Watched]) -> dict[str, Any]:
    """What would be written, as it is read again."""
    read: dict[str, Any] = json.loads(json.dumps({one.soaked.name: one.as_json() for one in watched}))
    return read


@pytest.mark.parametrize("name", [STEADY, RESTARTED])
def test_clients_do_everything_and_nothing_goes_wrong(found: dict[str, Any], name: str) -> None:
    assert found[name]["wrong"] == []
    assert set(found[name]["answers"]) == EVERYTHING


def test_one_server_is_restarted_and_the_other_always_answers(found: dict[str, Any]) -> None:
    assert len(found[RESTARTED]["restarts"]) == RESTARTS
    assert found[RESTARTED]["later"] > 0
    assert found[STEADY]["restarts"] == []
    assert found[STEADY]["later"] == 0


@pytest.mark.parametrize("name", [STEADY, RESTARTED])
def test_everything_that_is_judged_was_measured(found: dict[str, Any], name: str) -> None:
    for series in UNITS:
        values = [value for _, value in found[name]["series"][series]]
        assert values, series
        assert min(values) >= 0, series


def test_the_plot_shows_every_series(found: dict[str, Any], tmp_path: Path) -> None:
    draw(found, tmp_path / "soak.svg")
    drawn = (tmp_path / "soak.svg").read_text()
    assert all(text in drawn for text in (*UNITS, STEADY, RESTARTED))


def test_the_memory_that_a_pin_takes_to_be_checked_is_given_back(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", tmp_path / "server.log").start()
    try:
        before = proportional_bytes(server.process_id, "Pss_Anon")
        with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
            OAuthClient(http).sign_in()
        assert proportional_bytes(server.process_id, "Pss_Anon") - before < BYTES_OF_A_HASH / 2
    finally:
        server.stop()


def level(minute: float) -> float:
    """What does not grow, but is never quite the same."""
    return LEVEL * (1 + BY_NOISE * math.sin(37 * minute))


def saw(minute: float) -> float:
    """What grows from each restart to the next."""
    return LEVEL * (1 + 0.1 * (minute % 1.5))


def warming_up(minute: float) -> float:
    """What grows in the first minutes."""
    return level(minute) - max(0.0, LEVEL * 0.5 * (1 - minute / 8))


def leak(minute: float) -> float:
    """What has doubled after 25 minutes."""
    return level(minute) + minute * LEVEL * 0.04


def soaked(value: Callable[[float], float], *, series: str = "", leaked: Callable[[float], float] = level) -> Any:
    minutes = [number / 6 for number in range(MINUTES * 6)]
    measured = {
        name: [(minute, (leaked if name == series else value)(minute)) for minute in minutes] for name in TOLERANCES
    }
    bounded = {name: [(minute, 10.0) for minute in minutes] for name in (*MOST, CPU, WALL, STOLEN)}
    return {"restarts": [], "wrong": [], "series": {**measured, **bounded, "temporary files": [(MINUTES, 0)]}}


def missed(found: Any) -> list[str]:
    return [verdict.what for verdict in verdicts("a server", found) if not verdict.is_met]


@pytest.mark.parametrize("value", [level, saw, warming_up])
def test_what_does_not_grow_in_the_long_run_is_let_pass(value: Callable[[float], float]) -> None:
    assert missed(soaked(value)) == []


@pytest.mark.parametrize("series", TOLERANCES)
def test_a_leak_is_noticed(series: str) -> None:
    assert missed(soaked(level, series=series, leaked=leak)) == [f"a server, {series}: growth"]


def test_a_leak_beneath_restarts_is_noticed() -> None:
    assert missed(soaked(level, series="memory", leaked=lambda minute: saw(minute) + minute)) == [
        "a server, memory: growth"
    ]


def slowed_down(found: Any, factor: float, minute: float, series: Collection[str]) -> Any:
    """What is measured where everything takes so many times as long from a minute on."""
    for name in series:
        points = found["series"][name]
        found["series"][name] = [(when, value * (factor if when >= minute else 1)) for when, value in points]
    return found


@pytest.mark.parametrize("factor", [1.2, 3])
def test_a_machine_that_becomes_slower_is_not_taken_for_a_leak(factor: float) -> None:
    assert missed(slowed_down(soaked(level), factor, 21, [*SLOWED_BY, CPU, WALL])) == []


@pytest.mark.parametrize("series", SLOWED_BY)
def test_what_becomes_slower_on_a_machine_that_does_not_is_noticed(series: str) -> None:
    assert missed(slowed_down(soaked(level), 1.5, 20, [series])) == [f"a server, {series}: growth"]


@pytest.mark.parametrize("series", SLOWED_BY)
def test_a_leak_on_a_machine_that_becomes_slower_is_noticed(series: str) -> None:
    found = soaked(level, series=series, leaked=leak)
    assert missed(slowed_down(found, 1.2, 20, [*SLOWED_BY, CPU, WALL])) == [f"a server, {series}: growth"]


def test_a_machine_that_did_other_things_for_most_of_the_time_says_nothing_of_a_server() -> None:
    assert missed(slowed_down(soaked(level), 2, 17, [CPU, WALL])) == ["a server, disturbed samples"]


def test_more_threads_than_the_pools_can_have_are_noticed() -> None:
    found = soaked(level)
    found["series"]["threads"].append((MINUTES, 1 + MOST["threads"]))
    assert missed(found) == ["a server, threads: highest"]


@pytest.mark.parametrize("series", [*TOLERANCES, *MOST])
def test_what_was_not_measured_is_not_taken_for_good(series: str) -> None:
    found = soaked(level)
    del found["series"][series]
    assert missed(found) == [f"a server, {series}: measurements"]


def test_without_a_measure_of_the_machine_nothing_is_said_of_what_it_changes() -> None:
    found = soaked(level)
    del found["series"][CPU], found["series"][WALL]
    assert missed(found) == [f"a server, {series}: measurements" for series in SLOWED_BY]


def test_a_wrong_answer_and_files_left_behind_are_noticed() -> None:
    found = soaked(level)
    found["wrong"].append("refresh: 401")
    found["series"]["temporary files"] = [(MINUTES, 1)]
    assert missed(found) == ["a server, temporary files that kills left", "a server, wrong answers"]


def test_silence_is_wrong_unless_a_restart_explains_it(tmp_path: Path) -> None:
    soaked = Soaked("a server", AsProcess(tmp_path), tmp_path)
    notes = Notes(soaked)
    notes.not_answered("call", "503")
    assert notes.wrong == ["call: 503, and no restart explains it"]
    soaked.began = time.monotonic()
    notes.not_answered("call", "503")
    assert (len(notes.wrong), notes.later) == (1, 1)
