"""What commands print: text that strangers chose cannot steer the terminal, and columns stay columns."""

import io
import json
import sys

import pytest

from mcp_holdfast.cli.output import LONGEST_TEXT, plain, print_json, print_table, short, when


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Claude Code (müller)", "Claude Code (müller)"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("one\r\ntwo\tthree", r"one\r\ntwo\tthree"),
        ("\u202egnp.exe\u200b", r"\u202egnp.exe\u200b"),
        ("\x7f\u2028\ud800", r"\x7f\u2028\ud800"),
    ],
)
def test_what_is_not_simply_visible_is_escaped(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_json_is_ascii_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    value = [{"name": "\x1b\x7f\x9b\u202eü\n"}]
    print_json(value)
    printed = capsys.readouterr().out
    assert all(character == "\n" or " " <= character <= "~" for character in printed)
    assert json.loads(printed) == value


def test_columns_are_aligned_after_escaping(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "host", "name"), [("1", "a\x00b", "one"), ("22", "c", "two")])
    assert capsys.readouterr().out.splitlines() == [
        "id  host    name",
        r"1   a\x00b  one",
        "22  c       two",
    ]


def test_a_long_text_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert short("x" * 10_000) == "x" * (LONGEST_TEXT - 1) + "…"
    assert (short("x" * LONGEST_TEXT), short(None), short("")) == ("x" * LONGEST_TEXT, "-", "-")


def test_a_terminal_that_lacks_a_character_gets_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    print_table(("name",), [("ü",)])
    terminal.flush()
    assert terminal.buffer.getvalue() == b"name\n\\xfc\n"


def test_moments_are_told_in_utc() -> None:
    assert when(0) == "1970-01-01 00:00"
    assert when(None, otherwise="never") == "never"
