"""scripts/build-image.sh gives the image the name by which the files of compose/ run it."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/build-image.sh"


@pytest.mark.parametrize(
    ("arguments", "environment", "tag"),
    [((), {}, "holdfast"), ((), {"IMAGE": "mine:1"}, "mine:1"), (("given",), {"IMAGE": "mine:1"}, "given")],
    ids=["by default", "as Compose is told", "as the script is told"],
)
def test_the_image_is_called(tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], tag: str) -> None:
    # The engine alone is left out: this one knows every option and image, and prints what it is asked for.
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\nprintf -- "--secret %s\\n" "$*"\n')
    docker.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", **environment}
    done = subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=True)
    assert f" --tag {tag} --secret " in done.stdout
