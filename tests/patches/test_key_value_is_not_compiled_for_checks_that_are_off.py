"""With checks of types turned off, py-key-value loads from the bytecode that was installed with it."""

import os
import subprocess
import sys

PROGRAM = "import sys, key_value.aio.stores.memory; print('beartype.claw' in sys.modules)"


def test_no_import_hook_is_installed() -> None:
    environment = {**os.environ, "PY_KEY_VALUE_DISABLE_BEARTYPE": "true"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "False"
