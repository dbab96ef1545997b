"""The workflows know every image that a release publishes."""

from pathlib import Path

import yaml

from harness.container import RELEASED

IMAGE = Path(__file__).parents[2] / ".github/workflows/image.yaml"


def test_each_of_them_is_built_listed_and_scanned_for_each_platform() -> None:
    matrix = yaml.safe_load(IMAGE.read_text())["jobs"]["image"]["strategy"]["matrix"]
    assert tuple(matrix["target"]) == RELEASED
    assert matrix["architecture"] == [machine["architecture"] for machine in matrix["include"]]
