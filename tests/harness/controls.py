"""Controls: what must hold for a document, each with what must be seen to break it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.fargate import broken

Document = dict[str, Any]
Check = TypeVar("Check", bound=Callable[..., object])


@dataclass(frozen=True)
class Break:
    """One change that a control must notice: another value at a path (harness.fargate.broken)."""

    path: str
    value: Any

    def applied(self, document: Document) -> Document:
        return broken(document, self.path, self.value)


@dataclass(frozen=True)
class Control:
    """`check` returns whether a document keeps it."""

    name: str
    check: Callable[[Document], object]
    breaks: tuple[Break, ...]
    variants: tuple[str, ...]


@dataclass
class Controls:
    """The controls of one kind of document, each under its official name and what it says."""

    variants: tuple[str, ...]
    all: list[Control] = field(default_factory=list)

    def control(self, name: str, *breaks: tuple[str, Any], of: tuple[str, ...] = ()) -> Callable[[Check], Check]:
        """A check that holds for these variants of the document, and is broken by each of these changes."""

        def register(check: Check) -> Check:
            changes = tuple(Break(path, value) for path, value in breaks)
            self.all.append(Control(name, check, changes, of or self.variants))
            return check

        return register
