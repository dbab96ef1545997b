import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from patches.series import PATCHES, ROOT, Patch, copy_unpatched, copy_with_patches, read_series, series_entries

SERIES = read_series()


def test_every_patch_is_in_the_series_and_the_reverse() -> None:
    assert sorted(series_entries()) == sorted(path.name for path in PATCHES.glob("*.patch"))


@pytest.mark.parametrize("patch", SERIES, ids=lambda patch: patch.name)
def test_a_patch_says_what_it_is_and_where_it_stands(patch: Patch) -> None:
    for field in ("Description", "Origin", "Forwarded", "Author", "Last-Update", "Regression-Test"):
        assert patch.header[field], field
    assert re.fullmatch(r"(vendor|upstream|backport|other)(, https://\S+)?", patch.header["Origin"])
    assert re.fullmatch(r"no|not-needed|yes|https://\S+", patch.header["Forwarded"])
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", patch.header["Last-Update"])
    assert re.fullmatch(r"https://\S+", patch.header.get("Bug", "https://none"))
    assert {target.parts[0] for target in patch.targets} == {patch.package}


@pytest.mark.parametrize("patch", SERIES, ids=lambda patch: patch.name)
def test_a_patch_names_its_regression_test(patch: Patch) -> None:
    assert patch.regression_test.is_file()
    assert patch.regression_test.stem == "test_" + patch.path.stem.replace("-", "_")


@pytest.mark.parametrize("patch", SERIES, ids=lambda patch: patch.name)
def test_a_patch_comes_after_those_that_it_depends_on(patch: Patch) -> None:
    assert set(patch.depends_on) <= set(series_entries()[: SERIES.index(patch)])


@pytest.mark.long
@pytest.mark.parametrize("patch", SERIES, ids=lambda patch: patch.name)
def test_a_patch_is_still_needed(patch: Patch, tmp_path: Path) -> None:
    """Without it (and what depends on it) its tests fail, every one, and those of the same package's others pass."""
    others = [other for other in SERIES if patch.name not in requirements(other)]
    packages = copy_with_patches(tmp_path, others)
    near = [other for other in others if other.package == patch.package]

    outcomes = run_regression_tests(packages, [patch, *near])

    assert outcomes == {patch.regression_test.stem: {"failed"}} | {
        other.regression_test.stem: {"passed"} for other in near
    }


def test_every_regression_test_fails_on_the_unpatched_packages(tmp_path: Path) -> None:
    outcomes = run_regression_tests(copy_unpatched(tmp_path), SERIES)

    assert outcomes == {patch.regression_test.stem: {"failed"} for patch in SERIES}


def requirements(patch: Patch) -> set[str]:
    """The patch's own name and those of the patches that it depends on, however far."""
    found = {patch.name}
    for other in SERIES:
        if other.name in patch.depends_on:
            found |= requirements(other)
    return found


def run_regression_tests(packages: Path, patches: list[Patch]) -> dict[str, set[str]]:
    """Run the patches' tests on a copy of the packages and return the outcomes that each module had."""
    report = packages / "report.xml"
    subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "--quiet", "-p", "no:cacheprovider", f"--junitxml={report}"),
            *(str(patch.regression_test) for patch in patches),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(packages)},
        check=False,
        stdout=subprocess.DEVNULL,
    )
    outcomes = defaultdict(set)
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - our own report
        outcomes[case.attrib["classname"].rpartition(".")[2]].add(outcome(case))
    return dict(outcomes)


def outcome(case: ElementTree.Element) -> str:
    if case.find("error") is not None:
        return "error"
    return "passed" if case.find("failure") is None else "failed"
