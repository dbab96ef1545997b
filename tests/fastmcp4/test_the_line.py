"""Holdfast starts on the lines of FastMCP that it was tried on, and on no others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def imported_on(version: str, module: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    """Import a module where this version of FastMCP says that it is installed."""
    metadata = directory / f"fastmcp_slim-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.4\nName: fastmcp-slim\nVersion: {version}\n")
    return subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        env=os.environ | {"PYTHONPATH": str(directory)},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("version", ["3.4.10", "4.0.99"])
def test_a_line_that_was_tried_is_taken(version: str, tmp_path: Path) -> None:
    assert imported_on(version, "mcp_holdfast.cli", tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("version", "module"),
    [
        ("5.0.0", "mcp_holdfast.serve"),
        ("2.14.5", "mcp_holdfast.cli"),
        ("3.40.0", "mcp_holdfast.cli"),
        ("4.1.6", "mcp_holdfast.cli"),
    ],
)
def test_on_any_other_a_start_ends_and_says_what_to_do(version: str, module: str, tmp_path: Path) -> None:
    start = imported_on(version, module, tmp_path)
    assert (start.returncode, start.stdout) == (78, "")
    assert start.stderr.startswith("Holdfast cannot start:\n  - FastMCP: ")
    for told in (version, "constraints.txt", "constraints-fastmcp4.txt"):
        assert told in start.stderr
    assert "Traceback" not in start.stderr
