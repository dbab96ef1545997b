"""container-structure-test finds in the image what structure.yaml says, and notices an image that is another one."""

import os
import subprocess
from pathlib import Path

import pytest

from harness.container import debian_image

STRUCTURE = Path(__file__).with_name("structure.yaml")


def structure_test(image: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = ["container-structure-test", "test", "--image", image, "--config", str(STRUCTURE), "--no-color", *flags]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)


def test_the_image_is_as_described(image: str) -> None:
    done = structure_test(image)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def another() -> str:
    done = structure_test(debian_image())
    assert done.returncode != 0
    return done.stdout + done.stderr


@pytest.mark.parametrize("found", ["File Existence Test: no package manager of Debian", "Metadata Test"])
def test_another_image_is_told_from_it(another: str, found: str) -> None:
    assert f"{found}\n--- FAIL" in another
