"""What pytest does with a test that fails while others have the processors."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEALING = """
import pathlib

from harness import steal

steal.STATISTICS = pathlib.Path(__file__).with_name("stat")
tried = 0


def steal_for(seconds):
    ticks = int(seconds * steal.os.sysconf("SC_CLK_TCK"))
    fields = steal.STATISTICS.read_text().split()
    fields[steal.STEAL] = str(int(fields[steal.STEAL]) + ticks)
    steal.STATISTICS.write_text(" ".join(fields))
"""

PASSES_LATER = """
def test_it():
    global tried
    tried += 1
    steal_for({stolen})
    assert tried == {passes}
"""


@pytest.mark.parametrize(
    ("stolen", "passes", "told"),
    [
        (0, 1, "1 passed in"),
        (0, 2, "1 failed in"),
        (60, 1, "1 passed in"),
        (60, 2, "1 passed, 1 rerun in"),
        (60, 3, "1 passed, 2 rerun in"),
        (60, 4, "1 failed, 2 rerun in"),
    ],
)
def test_a_failure_counts_unless_the_processors_were_stolen(
    tmp_path: Path, stolen: int, passes: int, told: str
) -> None:
    (tmp_path / "stat").write_text("cpu  1 1 1 1 1 1 1 1 0 0")
    (tmp_path / "test_it.py").write_text(STEALING + PASSES_LATER.format(stolen=stolen, passes=passes))
    options = ["-p", "harness.steal", "-p", "no:cacheprovider", "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path]
    command = [sys.executable, "-m", "pytest", *map(str, options), str(tmp_path)]
    environment = {"PYTHONPATH": str(ROOT / "tests")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told in result.stdout.splitlines()[-1], result.stdout + result.stderr
