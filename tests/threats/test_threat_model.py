"""Each row of docs/threat-model.md names tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "threat-model.md"
NOTHING = "nothing: run only servers that you trust"


def rows() -> list[list[str]]:
    """The cells of each row, without heads and lines."""
    lines = [
        line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.endswith("tried by |")
    ]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", PAGE.read_text())
    assert len(named) > 50
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not re.search(rf"^\s*(async )?def {name}\(", (ROOT / path).read_text(), flags=re.MULTILINE)
    ]
    assert missing == []


def test_every_row_has_a_control_and_a_test() -> None:
    assert len(rows()) > 30
    without = [row[0] for row in rows() if len(row) != 3 or not row[1] or "::" not in row[2]]
    assert without == [row[0] for row in rows() if row[1] == NOTHING]
