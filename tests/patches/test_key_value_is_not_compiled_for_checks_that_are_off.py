"""With checks of types turned off, py-key-value loads from the bytecode that was installed with it, and checks none."""

import os
import subprocess
import sys

PROGRAM = """
import asyncio, sys
from key_value.aio.stores.memory import MemoryStore

print("beartype.claw" in sys.modules, "beartype" in sys.modules)
asyncio.run(MemoryStore().put(key=1, value={}))
"""


def test_beartype_is_imported_where_nobody_turned_it_off() -> None:
    off, on = run(off="true"), run(off="false")

    assert off.returncode == 0, off.stderr
    assert off.stdout.split() == ["False", "False"]
    assert on.stdout.split() == ["True", "True"]
    assert "violates type hint" in on.stderr


def run(off: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PY_KEY_VALUE_DISABLE_BEARTYPE": off}
    return subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, env=environment)
