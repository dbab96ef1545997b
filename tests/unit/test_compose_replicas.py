"""compose/replicas.yaml and compose/haproxy.cfg belong together, and each part of them is pinned and hardened."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

COMPOSE = Path(__file__).parents[2] / "compose"
HAPROXY_CFG = (COMPOSE / "haproxy.cfg").read_text()


@pytest.fixture(scope="module")
def deployment() -> dict[str, Any]:
    deployment: dict[str, Any] = yaml.safe_load((COMPOSE / "replicas.yaml").read_text())
    return deployment


def test_every_service_is_hardened(deployment: dict[str, Any]) -> None:
    for service in deployment["services"].values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["restart"] == "unless-stopped"


def test_each_secret_is_a_file(deployment: dict[str, Any]) -> None:
    for name, secret in deployment["secrets"].items():
        assert secret == {"file": f"${{SECRETS:-./secrets}}/{name}"}
        for replica in replicas(deployment):
            assert replica["environment"][f"HOLDFAST_{name.upper()}_FILE"] == f"/run/secrets/{name}"
            assert name in replica["secrets"]


def test_the_image_that_is_pulled_has_an_exact_version(deployment: dict[str, Any]) -> None:
    image = deployment["services"]["haproxy"]["image"]
    assert re.fullmatch(r"\$\{HAPROXY_IMAGE:-haproxy:\d+\.\d+\.\d+\}", image)


def test_the_load_balancer_knows_each_replica(deployment: dict[str, Any]) -> None:
    known = re.findall(r"presetenv REPLICA_\d (\S+):8000", HAPROXY_CFG)
    assert known == [name for name in deployment["services"] if name != "haproxy"]
    assert {replica["environment"]["PORT"] for replica in replicas(deployment)} == {8000}


def test_the_load_balancer_may_end_before_it_is_killed(deployment: dict[str, Any]) -> None:
    (hard_stop,) = re.findall(r"hard-stop-after (\d+)s", HAPROXY_CFG)
    assert int(hard_stop) < int(deployment["services"]["haproxy"]["stop_grace_period"].removesuffix("s"))


def replicas(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    return [service for name, service in deployment["services"].items() if name != "haproxy"]
