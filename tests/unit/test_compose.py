"""compose/local.yaml runs the image as hardened as it can be."""

from pathlib import Path
from typing import Any

import pytest
import yaml

LOCAL = Path(__file__).parents[2] / "compose/local.yaml"


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load(LOCAL.read_text())["services"]["holdfast"]
    return service


def test_only_the_volume_and_tmp_are_writable(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["volumes"] == ["holdfast:/data"]
    assert service["tmpfs"] == ["/tmp"]


def test_no_privilege_is_left_or_can_be_gained(service: dict[str, Any]) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_only_this_machine_reaches_it_unless_told_otherwise(service: dict[str, Any]) -> None:
    assert service["ports"] == ["${BIND_ADDRESS:-127.0.0.1}:${PORT:-8000}:${PORT:-8000}"]


def test_it_starts_again_after_a_crash(service: dict[str, Any]) -> None:
    assert service["restart"] == "unless-stopped"
