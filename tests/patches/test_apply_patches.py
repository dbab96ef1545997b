import shutil
import subprocess
from pathlib import Path

import pytest

from patches.series import PATCHES, ROOT, Patch, copy_unpatched, copy_with_patches, read_series

SERIES = read_series()
LAST = SERIES[-1]
REVOCATION = next(patch for patch in SERIES if patch.name == "revocation-for-public-clients.patch")


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    """The packages as their wheels install them."""
    return copy_unpatched(tmp_path / "site-packages")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script with a series that a test may change."""
    shutil.copytree(ROOT / "scripts", tmp_path / "checkout" / "scripts")
    shutil.copytree(PATCHES, tmp_path / "checkout" / "patches")
    return tmp_path / "checkout"


def apply_patches(*arguments: Path | str, root: Path = ROOT, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [root / "scripts" / "apply-patches.sh", *arguments], cwd=cwd, check=False, capture_output=True, text=True
    )


def contents(directory: Path) -> dict[Path, bytes]:
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_it_applies_the_series_in_order(site_packages: Path, tmp_path: Path) -> None:
    result = apply_patches(site_packages)

    assert result.returncode == 0, result.stderr
    assert [line.strip() for line in result.stdout.splitlines()[1:]] == [patch.name for patch in SERIES]
    assert contents(site_packages) == contents(copy_with_patches(tmp_path / "expected", SERIES))


def test_a_second_run_changes_nothing_and_says_so(site_packages: Path) -> None:
    apply_patches(site_packages)
    before = contents(site_packages)

    result = apply_patches(site_packages)

    assert result.returncode == 0, result.stderr
    assert "already applied" in result.stdout
    assert contents(site_packages) == before


def test_it_works_from_any_directory_with_a_relative_path(site_packages: Path) -> None:
    result = apply_patches(site_packages.name, cwd=site_packages.parent)

    assert result.returncode == 0, result.stderr
    assert "already applied" in apply_patches(site_packages).stdout


def test_a_changed_upstream_file_is_refused_by_the_name_of_the_patch(site_packages: Path) -> None:
    target = site_packages / REVOCATION.targets[0]
    target.write_text(target.read_text().replace("client_secret: str | None", "client_secret: SecretStr | None"))
    before = contents(site_packages)

    result = apply_patches(site_packages)

    assert result.returncode == 1
    assert f"{REVOCATION.name} does not fit" in result.stderr
    assert contents(site_packages) == before


def test_a_patch_that_would_need_fuzz_is_refused(site_packages: Path) -> None:
    target = site_packages / REVOCATION.targets[0]
    target.write_text(target.read_text().replace("    token: str\n", "    token: str  # changed\n"))
    before = contents(site_packages)
    subprocess.run(
        ["patch", "--strip=1", "--dry-run", f"--input={REVOCATION.path}"],
        cwd=site_packages,
        check=True,
        capture_output=True,
    )

    result = apply_patches(site_packages)

    assert result.returncode == 1
    assert f"{REVOCATION.name} does not fit" in result.stderr
    assert contents(site_packages) == before


def test_a_patch_that_fits_at_another_line_is_refused(site_packages: Path) -> None:
    path = LAST.targets[0]
    target = site_packages / path
    target.write_text("# one more line\n" + target.read_text())
    before = contents(site_packages)

    result = apply_patches(site_packages)

    assert result.returncode == 1
    first_of_the_file = next(patch for patch in SERIES if path in patch.targets)
    assert f"{first_of_the_file.name} does not fit" in result.stderr
    assert "offset 1 line" in result.stderr
    assert contents(site_packages) == before


@pytest.mark.parametrize("applied", [SERIES[:1], SERIES[:-1], SERIES[-1:]], ids=["first", "all but last", "last"])
def test_packages_patched_in_part_are_refused(tmp_path: Path, applied: list[Patch]) -> None:
    site_packages = copy_with_patches(tmp_path, applied)
    before = contents(site_packages)

    result = apply_patches(site_packages)

    assert result.returncode == 1
    assert "patched in part" in result.stderr
    assert applied[-1].name in result.stderr
    assert contents(site_packages) == before


def test_patches_of_packages_that_are_not_installed_are_left_out(site_packages: Path) -> None:
    without = {"exasol", "pyexasol"}
    for package in without:
        shutil.rmtree(site_packages / package)

    result = apply_patches(site_packages)

    assert result.returncode == 0, result.stderr
    applied = [line.strip() for line in result.stdout.splitlines()[1:]]
    assert applied == [patch.name for patch in SERIES if patch.package not in without]
    assert "already applied" in apply_patches(site_packages).stdout


def test_a_directory_with_none_of_the_packages_is_refused(tmp_path: Path) -> None:
    result = apply_patches(tmp_path)

    assert result.returncode == 1
    assert "none of the packages" in result.stderr


def test_a_missing_target_is_refused(site_packages: Path) -> None:
    (site_packages / REVOCATION.targets[0]).unlink()

    result = apply_patches(site_packages)

    assert result.returncode == 1
    assert str(REVOCATION.targets[0]) in result.stderr


def test_a_series_that_names_a_missing_patch_is_refused(site_packages: Path, checkout: Path) -> None:
    (checkout / "patches" / LAST.name).unlink()
    before = contents(site_packages)

    result = apply_patches(site_packages, root=checkout)

    assert result.returncode == 1
    assert LAST.name in result.stderr
    assert contents(site_packages) == before


def test_the_series_may_have_comments(site_packages: Path, checkout: Path) -> None:
    series = checkout / "patches" / "series"
    series.write_text("# why this order\n\n" + series.read_text().replace("\n", "  # a remark\n"))

    result = apply_patches(site_packages, root=checkout)

    assert result.returncode == 0, result.stderr
    assert "already applied" in apply_patches(site_packages).stdout


def test_a_package_cache_that_the_files_are_links_into_is_not_changed(site_packages: Path, tmp_path: Path) -> None:
    target = site_packages / LAST.targets[0]
    cached = tmp_path / "cached.py"
    cached.hardlink_to(target)
    before = cached.read_bytes()

    assert apply_patches(site_packages).returncode == 0

    assert cached.read_bytes() == before
    assert target.read_bytes() != before
    assert target.stat().st_mode == cached.stat().st_mode


def test_bytecode_of_the_unpatched_file_is_removed(site_packages: Path) -> None:
    target = site_packages / LAST.targets[0]
    stale = target.parent / "__pycache__" / f"{target.stem}.cpython-313.pyc"
    other = stale.with_name("other.cpython-313.pyc")
    stale.parent.mkdir()
    stale.touch()
    other.touch()

    assert apply_patches(site_packages).returncode == 0

    assert not stale.exists()
    assert other.exists()


@pytest.mark.parametrize("arguments", [[], ["/nowhere"], [".", "."]], ids=["none", "not a directory", "two"])
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    result = apply_patches(*arguments)

    assert result.returncode == 1
    assert result.stderr.startswith("apply-patches: ")
