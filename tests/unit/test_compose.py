"""compose/local.yaml runs the image as hardened as it can be and hands every setting on."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_holdfast.settings import Settings, variables_of

LOCAL = Path(__file__).parents[2] / "compose/local.yaml"


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load(LOCAL.read_text())["services"]["holdfast"]
    return service


def test_every_setting_reaches_the_container_under_its_own_name(service: dict[str, Any]) -> None:
    settings = {variables_of(setting)[0] for setting in Settings.model_fields.values()}
    # The volume is where the image expects it.
    assert settings - {"FASTMCP_HOME"} <= set(service["environment"])


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
