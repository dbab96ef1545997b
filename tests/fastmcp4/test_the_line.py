"""Holdfast starts on the lines of FastMCP that it was tried on, and on no others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_holdfast.libraries import fastmcp_problem


@pytest.mark.parametrize("version", ["3.4.10", "3.4.11", "4.0.11"])
def test_a_line_that_was_tried_is_taken(version: str) -> None:
    assert fastmcp_problem(version) is None


@pytest.mark.parametrize("version", ["2.14.5", "3.5.0", "3.40.0", "4.1.6", "5.0.0"])
def test_any_other_is_a_problem(version: str) -> None:
    assert fastmcp_problem(version) is not None


@pytest.mark.parametrize("module", ["mcp_holdfast.serve", "mcp_holdfast.cli"])
def test_on_any_other_the_start_ends_and_says_what_to_do(module: str, tmp_path: Path) -> None:
    version = "5.0.0"
    metadata = tmp_path / f"fastmcp_slim-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.4\nName: fastmcp-slim\nVersion: {version}\n")
    start = subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (start.returncode, start.stdout) == (78, "")
    assert start.stderr.startswith("Holdfast cannot start:\n")
    for told in (version, "constraints.txt", "constraints-fastmcp4.txt"):
        assert told in start.stderr
    assert "Traceback" not in start.stderr
