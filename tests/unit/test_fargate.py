"""fargate/task-definition.json is what ECS accepts, and keeps the controls that no schema knows.

Controls of AWS Security Hub are named by their identifier.
"""

import json
from pathlib import Path
from typing import Any

import botocore.session  # type: ignore[import-untyped]
import pytest
from botocore.validate import ParamValidator  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
SECRET_WORDS = ("PASSWORD", "SECRET", "TOKEN", "KEY", "PIN", "PAT")


@pytest.fixture(scope="module")
def task() -> dict[str, Any]:
    definition: dict[str, Any] = json.loads((ROOT / "fargate/task-definition.json").read_text())
    return definition


@pytest.fixture(scope="module")
def container(task: dict[str, Any]) -> dict[str, Any]:
    (only,) = task["containerDefinitions"]
    assert isinstance(only, dict)
    return only


def test_ecs_accepts_the_task_definition(task: dict[str, Any]) -> None:
    operation = botocore.session.get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition")
    report = ParamValidator().validate(task, operation.input_shape)
    assert not report.has_errors(), report.generate_report()


def test_fargate_can_run_it(task: dict[str, Any], container: dict[str, Any]) -> None:
    assert task["requiresCompatibilities"] == ["FARGATE"]
    assert (task["cpu"], task["memory"]) == ("512", "1024")
    assert "dockerSecurityOptions" not in container


def test_ecs_4_container_is_not_privileged(container: dict[str, Any]) -> None:
    assert container["privileged"] is False


def test_ecs_5_root_file_system_is_read_only(container: dict[str, Any]) -> None:
    assert container["readonlyRootFilesystem"] is True


def test_ecs_8_no_secret_in_the_environment(container: dict[str, Any]) -> None:
    plain = {variable["name"] for variable in container["environment"]}
    assert not [name for name in plain if any(word in name.split("_") for word in SECRET_WORDS)]
    assert all(secret["valueFrom"].startswith("arn:aws:secretsmanager:") for secret in container["secrets"])


def test_ecs_9_log_goes_to_cloudwatch_and_never_blocks_the_server(container: dict[str, Any]) -> None:
    assert container["logConfiguration"]["logDriver"] == "awslogs"
    assert container["logConfiguration"]["options"]["mode"] == "non-blocking"


def test_ecs_17_network_is_not_the_hosts(task: dict[str, Any]) -> None:
    assert task["networkMode"] == "awsvpc"


def test_ecs_18_volume_is_encrypted_in_transit_and_opened_by_role_and_access_point(task: dict[str, Any]) -> None:
    (volume,) = task["volumes"]
    efs = volume["efsVolumeConfiguration"]
    assert efs["transitEncryption"] == "ENABLED"
    assert efs["authorizationConfig"]["iam"] == "ENABLED"
    assert efs["authorizationConfig"]["accessPointId"].startswith("fsap-")
    # ECS refuses any other root together with an access point.
    assert efs.get("rootDirectory", "/") == "/"


def test_ecs_20_user_is_not_root(container: dict[str, Any]) -> None:
    assert container["user"] == "10001:10001"


def test_no_capability_is_left(container: dict[str, Any]) -> None:
    capabilities = container["linuxParameters"]["capabilities"]
    assert capabilities == {"drop": ["ALL"]}


def test_the_only_writable_places_are_the_volume_and_a_tmpfs(task: dict[str, Any], container: dict[str, Any]) -> None:
    (mount,) = container["mountPoints"]
    assert (mount["sourceVolume"], mount["containerPath"]) == (task["volumes"][0]["name"], "/data")
    (tmpfs,) = container["linuxParameters"]["tmpfs"]
    assert tmpfs["containerPath"] == "/tmp"
    assert {"nosuid", "nodev", "noexec"} <= set(tmpfs["mountOptions"])


def test_a_spot_interruption_leaves_the_two_minutes_that_fargate_grants(container: dict[str, Any]) -> None:
    assert container["stopTimeout"] == 120


def test_an_init_process_forwards_signals_and_reaps(container: dict[str, Any]) -> None:
    assert container["linuxParameters"]["initProcessEnabled"] is True


def test_health_check_is_the_images_own_because_ecs_ignores_that_one(container: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert json.dumps(container["healthCheck"]["command"][1:]) in dockerfile
    for name in ("interval", "timeout"):
        assert f"--{name}={container['healthCheck'][name]}s" in dockerfile


def test_task_mounts_and_publishes_what_the_image_declares(container: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"VOLUME {container['mountPoints'][0]['containerPath']}\n" in dockerfile
    assert f"EXPOSE {container['portMappings'][0]['containerPort']}\n" in dockerfile
