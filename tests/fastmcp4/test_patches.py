"""The patches of FastMCP 4: their tests fail on its packages as they come, and pass on those that servers run on."""

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fastmcp4.conftest import packages_of
from patches.series import PATCHES, ROOT, Patch, read_patch

SERIES = (PATCHES / "series-fastmcp4").read_text().split()
OWN = [read_patch(path) for path in sorted((PATCHES / "fastmcp4").glob("*.patch"))]
TESTS = {patch.regression_test.stem for patch in OWN}


def test_each_is_in_the_series_and_whatever_else_is_in_it_is_shared_with_fastmcp_3() -> None:
    shared = [name for name in SERIES if not name.startswith("fastmcp4/")]
    assert sorted(set(SERIES) - set(shared)) == [f"fastmcp4/{patch.name}" for patch in OWN]
    assert shared == [name for name in (PATCHES / "series").read_text().split() if name in shared]


@pytest.mark.parametrize("patch", OWN, ids=lambda patch: patch.name)
def test_each_says_what_it_is_and_names_its_test(patch: Patch) -> None:
    for field in ("Description", "Origin", "Forwarded", "Author", "Last-Update"):
        assert patch.header[field], field
    assert patch.regression_test.is_file()
    assert patch.regression_test.stem == "test_" + patch.path.stem.replace("-", "_")


@pytest.mark.long
def test_each_is_needed(tmp_path: Path) -> None:
    """Some of what a test wants FastMCP 4 does by itself."""
    outcomes = outcomes_on(packages_of("fastmcp-4"), tmp_path / "report.xml")
    assert {name for name, found in outcomes.items() if "failed" in found} == TESTS


@pytest.mark.long
def test_each_is_enough(tmp_path: Path) -> None:
    outcomes = outcomes_on(packages_of("holdfast-fastmcp4"), tmp_path / "report.xml")
    assert outcomes == {name: {"passed"} for name in TESTS}


def outcomes_on(packages: Path, report: Path) -> dict[str, set[str]]:
    """Run the tests of all of them with these packages in place of our own, and return the outcomes of each module."""
    subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "--quiet", "-p", "no:cacheprovider", f"--junitxml={report}"),
            *(str(patch.regression_test) for patch in OWN),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(packages)},
        check=False,
        stdout=subprocess.DEVNULL,
    )
    outcomes = defaultdict(set)
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - our own report
        outcomes[case.attrib["classname"].rpartition(".")[2]].add(_outcome(case))
    return dict(outcomes)


def _outcome(case: ElementTree.Element) -> str:
    if case.find("error") is not None:
        return "error"
    return "passed" if case.find("failure") is None else "failed"
