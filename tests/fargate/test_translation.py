"""The rehearsal's translation of the task definition takes all of it, or refuses it."""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.fargate import GONE, broken
from harness.server import PIN
from harness.task_definition import Task, Untranslated, docker_flags, rehearsed_definition, task_of

HERE = "containerDefinitions/0"
DEFINITION, SECRETS = rehearsed_definition(
    {"EXA_DSN": "db:8563", "EXA_USER": "mcp"}, {"EXA_PASSWORD": "it's secret"}, CPU_ARCHITECTURE="X86_64"
)


def task() -> Task:
    return task_of(DEFINITION, SECRETS)


def objects(part: Any, path: str = "") -> Iterator[str]:
    """The path of each object in a document, as harness.fargate.broken takes it."""
    if isinstance(part, dict):
        yield path
        for name, value in part.items():
            yield from objects(value, f"{path}{name}/")
    elif isinstance(part, list):
        for number, value in enumerate(part):
            yield from objects(value, f"{path}{number}/")


@pytest.mark.parametrize("path", [path for path in objects(DEFINITION) if not path.startswith("tags")])
def test_what_it_does_not_know_is_refused_wherever_it_is(path: str) -> None:
    with pytest.raises(Untranslated, match="nothing here stands for aControl"):
        task_of(broken(DEFINITION, f"{path}aControl", True), SECRETS)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("requiresCompatibilities", ["EC2"]),
        ("networkMode", "host"),
        ("runtimePlatform/operatingSystemFamily", "WINDOWS_SERVER_2022_CORE"),
        ("volumes/0/efsVolumeConfiguration/transitEncryption", "DISABLED"),
        ("volumes/0/efsVolumeConfiguration/authorizationConfig/iam", "DISABLED"),
        ("volumes/0/efsVolumeConfiguration", GONE),
        (f"{HERE}/essential", False),
        (f"{HERE}/privileged", True),
        (f"{HERE}/readonlyRootFilesystem", GONE),
        (f"{HERE}/linuxParameters/capabilities/drop", []),
        (f"{HERE}/mountPoints/0/sourceVolume", "another"),
        (f"{HERE}/mountPoints", []),
        (f"{HERE}/secrets/0/valueFrom", "arn:aws:secretsmanager:eu-central-1:111122223333:secret:unknown-AbCdEf"),
        (f"{HERE}/healthCheck/command", ["CMD-SHELL", "true"]),
        (f"{HERE}/healthCheck/retries", GONE),
        (f"{HERE}/logConfiguration/logDriver", "splunk"),
        (f"{HERE}/stopTimeout", GONE),
    ],
)
def test_what_it_cannot_do_is_refused(path: str, value: Any) -> None:
    with pytest.raises(Untranslated, match=path.rpartition("/")[2].removesuffix("s")):
        task_of(broken(DEFINITION, path, value), SECRETS)


def test_docker_is_told_all_of_it() -> None:
    flags = docker_flags(task(), volumes={"holdfast": "a-volume"}, port=18000)
    assert [flag for flag in flags if not flag.startswith("--env=")] == [
        "--platform=linux/amd64",
        "--cpus=0.5",
        "--memory=1024m",
        "--publish=127.0.0.1:18000:8000",
        "--read-only",
        "--cap-drop=ALL",
        "--user=10001:10001",
        "--init",
        "--tmpfs=/tmp:size=64m,nosuid,nodev,noexec",
        "--ulimit=nofile=65536:65536",
        "--mount=type=volume,source=a-volume,destination=/data,volume-nocopy",
        "--health-cmd=exec python -m mcp_holdfast.healthcheck",
        "--health-interval=30s",
        "--health-timeout=10s",
        "--health-retries=10",
        "--health-start-period=120s",
        "--stop-timeout=120",
    ]


def test_settings_and_the_values_of_secrets_are_variables() -> None:
    variables = task().environment
    assert (variables["EXA_DSN"], variables["EXA_PASSWORD"]) == ("db:8563", "it's secret")
    assert (variables["HOLDFAST_PIN"], variables["HOLDFAST_BASE_URL"]) == (PIN, "https://mcp.example.com")
    (container,) = DEFINITION["containerDefinitions"]
    assert variables.keys() == {each["name"] for each in [*container["environment"], *container["secrets"]]}


def test_a_second_volume_may_be_read_only() -> None:
    old = {"name": "old", "efsVolumeConfiguration": {"fileSystemId": "fs-0", "transitEncryption": "ENABLED"}}
    mount = {"sourceVolume": "old", "containerPath": "/old", "readOnly": True}
    more = broken(broken(DEFINITION, "volumes/1", old), f"{HERE}/mountPoints/1", mount)
    flags = docker_flags(task_of(more, SECRETS), volumes={"holdfast": "new", "old": "old"}, port=18000)
    assert "--mount=type=volume,source=old,destination=/old,volume-nocopy,readonly" in flags
