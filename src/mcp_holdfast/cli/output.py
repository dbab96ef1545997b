"""Tables for people and JSON for programs; strangers choose some of the text, so none of it may steer a terminal."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

GAP = "  "
NOTHING = "-"
LONGEST_TEXT = 60


def plain(text: str) -> str:
    """Text with everything escaped that is not simply visible: control characters, line breaks, changes of direction.

    What a terminal does with those may hide, forge or run something.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def short(text: str | None) -> str:
    """Text of any length for a table."""
    if not text:
        return NOTHING
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def when(moment: float | None, *, otherwise: str = NOTHING) -> str:
    """A moment (seconds since the epoch) for people, in UTC."""
    return otherwise if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"


def iso(moment: float | None) -> str | None:
    """A moment (seconds since the epoch) for programs (ISO 8601)."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns. The last one needs no width, so it is the place for text in any script."""
    cells = [list(head), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    _prepare_stdout()
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        print(GAP.join([*padded, row[-1]]))


def print_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print JSON that is plain ASCII without control characters."""
    print(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))


def _prepare_stdout() -> None:
    """Where the terminal's encoding lacks a character, print its code instead of failing."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
