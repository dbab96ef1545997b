"""What a row of the benchmarks has found: verdicts on goals, tables for people, and everything that was measured."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self


@dataclass(frozen=True)
class Scale:
    """How long to measure. `seconds` are those of one measurement; `records` are in the largest tree.

    `numbers` are those of the rounds: number 0 pays for what is loaded once, and does not count.
    """

    rounds: int = 7
    seconds: float = 0.75
    records: int = 100_000
    warms_up: bool = True

    @classmethod
    def quick(cls) -> Self:
        return cls(rounds=1, seconds=0.25, records=10_000, warms_up=False)

    @property
    def numbers(self) -> range:
        return range(0 if self.warms_up else 1, self.rounds + 1)


@dataclass(frozen=True)
class Verdict:
    """One goal, and whether all that was `found` reaches its `bound`; ratios have no unit."""

    what: str
    direction: Literal["at least", "at most"]
    bound: float
    found: Sequence[float]
    unit: str = ""

    @property
    def is_met(self) -> bool:
        if self.direction == "at least":
            return min(self.found) >= self.bound
        return max(self.found) <= self.bound

    def cells(self) -> list[str]:
        unit = f" {self.unit}" if self.unit else ""
        found = " / ".join(f"{value:.3g}" for value in self.found)
        return [
            self.what,
            f"{self.direction} {self.bound:g}{unit}",
            f"{found}{unit}",
            "met" if self.is_met else "**missed**",
        ]


@dataclass(frozen=True)
class Result:
    """What one row has found; `raw` is JSON."""

    title: str
    how: str
    verdicts: Sequence[Verdict]
    tables: Sequence[Sequence[Sequence[str]]]
    raw: Any = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "verdicts": [asdict(verdict) for verdict in self.verdicts]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        return cls(**{**value, "verdicts": [Verdict(**verdict) for verdict in value["verdicts"]]})


Progress = Callable[[str], None]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])
