"""The patch series, and copies of the installed packages with some of its patches taken back."""

import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATCHES = ROOT / "patches"
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))


@dataclass(frozen=True)
class Patch:
    path: Path
    header: Message

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def depends_on(self) -> list[str]:
        return [name.strip() for name in self.header.get("Depends-On", "").split(",") if name.strip()]

    @property
    def regression_test(self) -> Path:
        return ROOT / self.header["Regression-Test"]

    @property
    def targets(self) -> list[Path]:
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [Path(line.removeprefix("+++ b/").split("\t")[0]) for line in lines if line.startswith("+++ b/")]

    @property
    def package(self) -> str:
        """What it changes: a directory or a module of the installed packages."""
        return self.targets[0].parts[0]


def series_entries() -> list[str]:
    return [line for line in (PATCHES / "series").read_text(encoding="utf-8").splitlines() if line]


def read_patch(path: Path) -> Patch:
    header, _, _ = path.read_text(encoding="utf-8").partition("\n--- a/")
    return Patch(path, HeaderParser().parsestr(header))


def read_series() -> list[Patch]:
    return [read_patch(PATCHES / name) for name in series_entries()]


def run_patch(tree: Path, patch: Patch, *options: str) -> None:
    """Run patch(1) without fuzz. Offsets are fine here, because neighbours in the same file may be missing."""
    subprocess.run(
        ["patch", "--strip=1", "--fuzz=0", "--force", "--no-backup-if-mismatch", f"--input={patch.path}", *options],
        cwd=tree,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def copy_unpatched(tree: Path) -> Path:
    """Copy the patched packages as their wheels install them."""
    patches = read_series()
    for package in {patch.package for patch in patches}:
        installed = SITE_PACKAGES / package
        if installed.is_dir():
            shutil.copytree(installed, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            tree.mkdir(parents=True, exist_ok=True)
            shutil.copy(installed, tree)
    for patch in reversed(patches):
        run_patch(tree, patch, "--reverse")
    return tree


def copy_with_patches(tree: Path, patches: Iterable[Patch]) -> Path:
    copy_unpatched(tree)
    for patch in patches:
        run_patch(tree, patch)
    return tree
