"""Make the store of a real server process fail, hang or be slow, and heal it, while the server runs."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAYLOAD = Path(__file__).with_name("faulty_payload.py")
OPERATIONS = ("get", "put", "delete", "add")


class StoreFaults:
    """Tells servers that were started with `environment` what their store's operations do from now on."""

    def __init__(self, control: Path) -> None:
        """`control` is a file that need not exist yet: without it the store is well."""
        self._control = control

    @property
    def environment(self) -> dict[str, str]:
        return {"HOLDFAST_SERVER": str(PAYLOAD), "STORE_FAULTS": str(self._control)}

    def fail(self, operations: Sequence[str] = OPERATIONS, number: int = errno.EIO) -> None:
        """Let these operations raise OSError with this errno, as a full or broken disk does."""
        self._say(operations, errno=number)

    def hang(self, operations: Sequence[str] = OPERATIONS) -> None:
        """Let these operations, in their threads, neither fail nor end until `heal`, as a dead hard mount does."""
        self._say(operations, hang=True)

    def slow(self, seconds: float, operations: Sequence[str] = OPERATIONS) -> None:
        """Let these operations take so much longer."""
        self._say(operations, seconds=seconds)

    def heal(self) -> None:
        self._control.unlink(missing_ok=True)

    def _say(self, operations: Sequence[str], **fault: Any) -> None:
        unknown = set(operations) - set(OPERATIONS)
        if unknown:
            raise ValueError(f"no operations of a store: {unknown}")
        draft = self._control.with_suffix(".draft")
        draft.write_text(json.dumps({"operations": list(operations), **fault}))
        draft.replace(self._control)
