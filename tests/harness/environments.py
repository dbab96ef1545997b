"""Environments with the real packages of other servers."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@cache
def interpreter_of(environment: str) -> Path:
    """The interpreter of what scripts/test-environment.sh makes; it has nothing to do where that is up to date."""
    made = subprocess.run(
        [ROOT / "scripts/test-environment.sh", environment], check=True, stdout=subprocess.PIPE, text=True
    )
    return Path(made.stdout.strip())
