"""Let a server write down each operation that it does on the files of its store, and tell how many a request takes."""

import time
from collections import Counter
from pathlib import Path

from harness.journeys import LocalJourney

PAYLOAD = Path(__file__).with_name("counting_payload.py")


class FileCounts:
    """Counts what servers do that were started with `environment`, one of them after the other."""

    def __init__(self, done: Path) -> None:
        """`done` is a file that need not exist yet."""
        self._done = done

    @property
    def environment(self) -> dict[str, str]:
        return {"HOLDFAST_SERVER": str(PAYLOAD), "FILE_OPERATIONS": str(self._done), "HOLDFAST_SWEEP_INTERVAL": "0"}

    def begin(self) -> None:
        """Forget what was counted."""
        self._done.write_text("")

    def settle(self) -> Counter[str]:
        """How often each operation was done, once the store has been quiet for a moment: see Crashes.settle."""
        before: list[str] | None = None
        while (now := self._done.read_text().split()) != before:
            before = now
            time.sleep(0.3)
        return Counter(now)

    def of_steps(self, journey: LocalJourney) -> dict[str, Counter[str]]:
        """What each step of a journey does, and the same call once more."""
        found = {}
        for name, step in journey.steps.items():
            self.begin()
            step()
            found[name] = self.settle()
            if name == "call":
                self.begin()
                step()
                found["call again"] = self.settle()
        return found
