"""What is wrong with a configuration."""

from collections.abc import Iterable
from dataclasses import dataclass

EXIT_CONFIG = 78
"""Exit status for a configuration that cannot work (EX_CONFIG of sysexits.h)."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the configuration.

    `variable` is the environment variable to change, `what` says what is wrong with it, `remedy` what to do, and
    `origin` where the value came from when that is not the variable itself (a secret file, an alias, a default).
    """

    variable: str
    what: str
    remedy: str
    origin: str = ""

    def __str__(self) -> str:
        origin = f" (from {self.origin})" if self.origin and self.origin != self.variable else ""
        # What another library says of it may end with a full stop, or several.
        return f"{self.variable}{origin}: {self.what.rstrip('. ')}. {self.remedy}"


class ConfigurationError(Exception):
    """The configuration cannot work. Carries every problem that was found, not just the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"  - {problem}" for problem in self.problems))
