"""What was removed from a store because nobody needs it any more."""

from dataclasses import dataclass

EXPIRED_FOR = 60.0
"""In seconds: a record that expired so long ago has expired by the clock of every replica."""

TEMPORARY_FOR = 3600.0
"""In seconds: no write takes so long, so its temporary file was left behind by a process that was killed."""


@dataclass(frozen=True)
class Swept:
    """How many records and files were examined, and how many of them were removed, by the reason why."""

    examined: int = 0
    expired: int = 0
    temporary: int = 0
    quarantined: int = 0

    @property
    def removed(self) -> int:
        return self.expired + self.temporary + self.quarantined

    def __add__(self, other: "Swept") -> "Swept":
        return Swept(
            self.examined + other.examined,
            self.expired + other.expired,
            self.temporary + other.temporary,
            self.quarantined + other.quarantined,
        )
