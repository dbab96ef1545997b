"""Two builds of one commit make the same layers. `make reproducible` runs this: each build takes some minutes."""

import json
import subprocess

import pytest

from harness.container import RELEASED, ROOT, docker


def layers(tag: str, target: str) -> list[str]:
    """Build a target from the very start; the digests of its layers."""
    subprocess.run([ROOT / "scripts/build-image.sh", tag, target, "--no-cache"], check=True, capture_output=True)
    found: list[str] = json.loads(docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", tag))
    return found


@pytest.mark.parametrize("target", RELEASED)
def test_two_builds_make_the_same_layers(target: str) -> None:
    tags = [f"holdfast-{number}-of-2:{target}" for number in (1, 2)]
    try:
        first, second = (layers(tag, target) for tag in tags)
    finally:
        docker("rmi", *tags)
    assert first == second
