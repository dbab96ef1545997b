"""AppArmor's own parser takes deploy/apparmor-holdfast; whether a kernel enforces it is not seen here."""

import subprocess
from pathlib import Path

import pytest

from harness.container import ROOT

PROFILE = ROOT / "deploy" / "apparmor-holdfast"


@pytest.fixture(scope="module", autouse=True)
def parser() -> None:
    subprocess.run([ROOT / "scripts" / "install-packages.sh", "apparmor"], check=True)


def parse(profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Compile it, and neither load it into the kernel nor keep it."""
    command = ["apparmor_parser", "--skip-kernel-load", "--skip-cache", *flags, str(profile)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_compiles() -> None:
    done = parse(PROFILE)
    assert done.returncode == 0, done.stderr


def test_it_is_called_as_the_page_says() -> None:
    (name,) = parse(PROFILE, "--names").stdout.split()
    assert f"apparmor={name}" in (ROOT / "docs" / "supply-chain.md").read_text()


@pytest.mark.parametrize(
    "mistake", [("network inet stream,", "network inet stream"), ("mrix", "mrxi"), ("signal (", "signals (")]
)
def test_a_mistake_in_it_is_noticed(tmp_path: Path, mistake: tuple[str, str]) -> None:
    broken = tmp_path / "broken"
    broken.write_text(PROFILE.read_text().replace(*mistake))
    assert parse(broken).returncode != 0
