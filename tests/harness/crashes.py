"""Number the operations that a server's store does, and kill the server at one of them."""

import json
import time
from pathlib import Path

PAYLOAD = Path(__file__).with_name("crashing_payload.py")


class Crashes:
    """Controls servers that were started with `environment`."""

    def __init__(self, directory: Path) -> None:
        self._control = directory / "crash.json"
        self._done = directory / "operations.txt"

    @property
    def environment(self) -> dict[str, str]:
        return {"HOLDFAST_SERVER": str(PAYLOAD), "CRASH_POINTS": str(self._control)}

    def count(self) -> None:
        """Write down from now on what the store does."""
        self.kill_at("none", 0, "before")

    def kill_at(self, operation: str, occurrence: int, when: str) -> None:
        """Kill the server `before` or `after` it does this operation, as in `put holdfast_grants`, for the n-th time.

        By its occurrence and not by its number: a lease that is extended meanwhile would move all behind it.
        """
        self._done.unlink(missing_ok=True)
        control = {"done": str(self._done), "operation": operation, "occurrence": occurrence, "when": when}
        self._control.write_text(json.dumps(control))

    def stop(self) -> list[str]:
        """End that; the operations that were done, as in `put holdfast_grants`."""
        self._control.unlink(missing_ok=True)
        return self._operations()

    def settle(self) -> list[str]:
        """End it once the store has been quiet for a moment: a server tidies up after it has answered."""
        before: list[str] | None = None
        while (now := self._operations()) != before:
            before = now
            time.sleep(0.3)
        return self.stop()

    def _operations(self) -> list[str]:
        return self._done.read_text().splitlines() if self._done.exists() else []
