"""Which of a test's parameters `make test` tries."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest

Names = str | tuple[str, ...]


def in_every_run(chosen: Collection[Names], names: Iterable[Names]) -> list[Any]:
    """Parameters of one or more names each, of which those that are not `chosen` are tried by `make long` only."""
    return [name if name in chosen else pytest.param(*_several(name), marks=pytest.mark.long) for name in names]


def _several(name: Names) -> tuple[str, ...]:
    return (name,) if isinstance(name, str) else name
