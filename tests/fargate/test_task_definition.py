"""The task definition, rendered from its file and made by the stack, is what ECS accepts and keeps every control.

Controls of AWS Security Hub and of the CIS Docker Benchmark (1.6) are named by their identifiers; each must notice each
change that breaks it.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session  # type: ignore[import-untyped]
import pytest
from botocore.validate import ParamValidator  # type: ignore[import-untyped]

from harness.controls import Control, Controls
from harness.fargate import GONE, PLACEHOLDERS, STACK, VARIANTS, as_task_definition
from mcp_holdfast.cli.fargate import PLACEHOLDER, SECRET_WORDS, TEMPLATE, rendered_definition
from mcp_holdfast.healthcheck import ANSWERS_WITHIN
from mcp_holdfast.serve import gunicorn_settings
from mcp_holdfast.settings import Environment, Settings, load_settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ON_FILES = ("rendered", "efs", "everything", "restored")

Task = dict[str, Any]


@cache
def definition(variant: str) -> Task:
    if variant == "rendered":
        return rendered_definition([f"{name}={value}" for name, value in PLACEHOLDERS.items()])
    return as_task_definition(STACK.resources(**VARIANTS[variant])["TaskDefinition"]["Properties"])


def container(task: Task) -> Task:
    (only,) = task["containerDefinitions"]
    assert isinstance(only, dict)
    return only


def plain_variables(task: Task) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container(task)["environment"]}


CONTROLS = Controls((*ON_FILES, "dynamodb"))
control = CONTROLS.control
NOTICED_WITHIN = 15
"""In seconds, from a Spot interruption: by how long a load balancer may be late."""

HERE = "containerDefinitions/0"
EFS = "volumes/0/efsVolumeConfiguration"


@control("ECS.3 no process namespace of the host", ("pidMode", "host"), ("ipcMode", "host"))
def _(task: Task) -> object:
    return "pidMode" not in task and "ipcMode" not in task


@control("ECS.4, CIS Docker 5.5 not privileged", (f"{HERE}/privileged", True), (f"{HERE}/privileged", GONE))
def _(task: Task) -> object:
    return container(task).get("privileged") is False


@control("ECS.5, CIS Docker 5.13 read-only root", (f"{HERE}/readonlyRootFilesystem", False))
def _(task: Task) -> object:
    return container(task)["readonlyRootFilesystem"] is True


@control(
    "ECS.8 no secret in plain variables",
    (f"{HERE}/environment/5", {"name": "EXA_PASSWORD", "value": "x"}),
    (f"{HERE}/secrets/2/valueFrom", "the key itself"),
    (f"{HERE}/secrets/0", GONE),
    of=("rendered",),
)
def _(task: Task) -> object:
    secrets = {secret["name"]: secret["valueFrom"] for secret in container(task)["secrets"]}
    return (
        not [name for name in plain_variables(task) if name.rpartition("_")[2] in SECRET_WORDS]
        and {"HOLDFAST_PIN", "HOLDFAST_SIGNING_KEY", "HOLDFAST_STORAGE_KEY"} <= secrets.keys()
        and all(arn.startswith("arn:aws:secretsmanager:") for arn in secrets.values())
    )


@control(
    "ECS.9 the log goes to CloudWatch, and never blocks the server",
    (f"{HERE}/logConfiguration/logDriver", "json-file"),
    (f"{HERE}/logConfiguration/options/mode", "blocking"),
    (f"{HERE}/logConfiguration/options/awslogs-group", GONE),
)
def _(task: Task) -> object:
    log = container(task)["logConfiguration"]
    return (
        log["logDriver"] == "awslogs" and log["options"]["mode"] == "non-blocking" and "awslogs-group" in log["options"]
    )


@control("ECS.17, CIS Docker 5.10 a network of its own", ("networkMode", "host"), ("networkMode", "bridge"))
def _(task: Task) -> object:
    return task["networkMode"] == "awsvpc"


@control("ECS.18 the volume is encrypted on its way", (f"{EFS}/transitEncryption", "DISABLED"), of=ON_FILES)
def _(task: Task) -> object:
    return task["volumes"][0]["efsVolumeConfiguration"]["transitEncryption"] == "ENABLED"


@control(
    "EFS access point and IAM open the volume",
    (f"{EFS}/authorizationConfig/iam", "DISABLED"),
    (f"{EFS}/authorizationConfig/accessPointId", GONE),
    (f"{EFS}/rootDirectory", "/elsewhere"),
    ("taskRoleArn", GONE),
    of=ON_FILES,
)
def _(task: Task) -> object:
    volume = task["volumes"][0]["efsVolumeConfiguration"]
    # ECS refuses any other root together with an access point.
    is_its_root = volume.get("rootDirectory", "/") == "/"
    authorization = volume["authorizationConfig"]
    return (
        is_its_root and authorization["iam"] == "ENABLED" and "accessPointId" in authorization and "taskRoleArn" in task
    )


@control(
    "ECS.20, CIS Docker 4.1 not root",
    (f"{HERE}/user", "0"),
    (f"{HERE}/user", "root"),
    (f"{HERE}/user", "10001:0"),
    (f"{HERE}/user", GONE),
)
def _(task: Task) -> object:
    return container(task).get("user") == "10001:10001"


@control(
    "CIS Docker 5.4 no capability is left",
    (f"{HERE}/linuxParameters/capabilities/drop", []),
    (f"{HERE}/linuxParameters/capabilities/add", ["SYS_PTRACE"]),
)
def _(task: Task) -> object:
    return container(task)["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}


@control(
    "CIS Docker 5.19 ulimits are set, by the only one that Fargate takes",
    (f"{HERE}/ulimits/0/softLimit", 1024),
    (f"{HERE}/ulimits/1", {"name": "core", "softLimit": 0, "hardLimit": 0}),
)
def _(task: Task) -> object:
    (limit,) = container(task)["ulimits"] if len(container(task)["ulimits"]) == 1 else (None,)
    return limit is not None and limit["name"] == "nofile" and limit["softLimit"] == limit["hardLimit"] >= 65536


@control(
    "CIS Docker 5.27 the image's health check, because ECS ignores that one",
    (f"{HERE}/healthCheck", GONE),
    (f"{HERE}/healthCheck/command", ["CMD", "true"]),
)
def _(task: Task) -> object:
    check = container(task).get("healthCheck", {"command": []})
    command = re.search(r"HEALTHCHECK [^\n]*\\\n +CMD (\[.*\])", DOCKERFILE)
    return command is not None and ["CMD", *re.findall(r'"([^"]+)"', command[1])] == check["command"]


@control(
    "health check: has time to say that the volume hangs, and waits for longer than a mount takes to come back",
    (f"{HERE}/healthCheck/timeout", 5),
    (f"{HERE}/healthCheck/retries", 3),
    (f"{HERE}/healthCheck/startPeriod", 10),
)
def _(task: Task) -> object:
    check = container(task)["healthCheck"]
    return (
        check["timeout"] > 2 * ANSWERS_WITHIN
        and check["interval"] * check["retries"] >= 300
        and check["startPeriod"] >= 60
        and check["retries"] <= 10
        and check["startPeriod"] <= 300
    )


@control(
    "the only writable places are the volume and a tmpfs",
    (f"{HERE}/mountPoints/0/containerPath", "/srv"),
    (f"{HERE}/linuxParameters/tmpfs/0/mountOptions", ["nosuid", "nodev"]),
    (f"{HERE}/linuxParameters/tmpfs/1", {"containerPath": "/run", "size": 1}),
    of=ON_FILES,
)
def _(task: Task) -> object:
    mounts = container(task)["mountPoints"]
    tmpfs = container(task)["linuxParameters"]["tmpfs"]
    return (
        [(mount["sourceVolume"], mount["containerPath"]) for mount in mounts] == [(task["volumes"][0]["name"], "/data")]
        and f"VOLUME {mounts[0]['containerPath']}\n" in DOCKERFILE
        and [each["containerPath"] for each in tmpfs] == ["/tmp"]
        and {"nosuid", "nodev", "noexec"} <= set(tmpfs[0]["mountOptions"])
    )


@control("no volume where there is a table", ("volumes", [{"name": "holdfast"}]), of=("dynamodb",))
def _(task: Task) -> object:
    return "volumes" not in task and "mountPoints" not in container(task)


@control(
    "Fargate: two minutes from SIGTERM to SIGKILL, as long as Spot gives, and longer than the server takes",
    (f"{HERE}/stopTimeout", 30),
    (f"{HERE}/stopTimeout", 121),
    (f"{HERE}/stopTimeout", GONE),
)
def _(task: Task) -> object:
    stop = container(task).get("stopTimeout", 30)
    return stop == 120 and gunicorn_settings(settings(task))["graceful_timeout"] < stop


@control(
    "Spot: a task says that it is not ready for as long as the load balancer takes to notice",
    (f"{HERE}/environment/4/value", "0"),
    (f"{HERE}/environment/4/name", "HOLDFAST_DRAINS"),
)
def _(task: Task) -> object:
    return settings(task).drain >= NOTICED_WITHIN


@control("Fargate: an init process forwards signals and reaps", (f"{HERE}/linuxParameters/initProcessEnabled", False))
def _(task: Task) -> object:
    return container(task)["linuxParameters"]["initProcessEnabled"] is True


@control(
    "Fargate: it can run it",
    ("requiresCompatibilities", ["EC2"]),
    ("memory", "512"),
    (f"{HERE}/dockerSecurityOptions", ["no-new-privileges"]),
    ("runtimePlatform/cpuArchitecture", "X64"),
)
def _(task: Task) -> object:
    return (
        task["requiresCompatibilities"] == ["FARGATE"]
        and (task["cpu"], task["memory"]) == ("512", "1024")
        and "dockerSecurityOptions" not in container(task)
        and task["runtimePlatform"]["cpuArchitecture"] in {"X86_64", "ARM64"}
    )


@control(
    "the image listens where the task is published",
    (f"{HERE}/portMappings/0/containerPort", 80),
    (f"{HERE}/environment/5", {"name": "PORT", "value": "9000"}),
)
def _(task: Task) -> object:
    port = container(task)["portMappings"][0]["containerPort"]
    found, problems = load_settings(Environment(plain_variables(task) | keys(task)))
    return problems == [] and found.port == port and f"EXPOSE {port}\n" in DOCKERFILE


@control(
    "any task answers any request, and believes the load balancer about addresses",
    (f"{HERE}/environment/1/value", "0"),
    (f"{HERE}/environment/2/value", "*"),
    (f"{HERE}/environment/2", GONE),
)
def _(task: Task) -> object:
    found, problems = load_settings(Environment(plain_variables(task) | keys(task)))
    return problems == [] and found.replicas and found.forwarded_allow_ips == "10.0.0.0/24,10.0.1.0/24"


@control("ECS: a tag that can be rolled back to", (f"{HERE}/image", "holdfast:latest"), (f"{HERE}/image", "a/holdfast"))
def _(task: Task) -> object:
    return re.search(r"/[\w./-]+(:(?!latest)[\w.-]+|@sha256:\w{64})$", container(task)["image"]) is not None


def keys(task: Task) -> dict[str, str]:
    """Values for the secrets, so that the settings are complete."""
    names = [secret["name"] for secret in container(task)["secrets"] if secret["name"].startswith("HOLDFAST_")]
    return {name: f"{name}-and-thirty-two-characters" for name in names}


def settings(task: Task) -> Settings:
    given = {variable["name"]: variable["value"] for variable in container(task)["environment"]}
    return load_settings(Environment({name: given[name] for name in given if name == "HOLDFAST_DRAIN"}))[0]


@pytest.mark.parametrize("control", CONTROLS.all, ids=lambda control: control.name)
def test_is_kept(control: Control) -> None:
    for variant in control.variants:
        assert control.check(definition(variant)), variant


@pytest.mark.parametrize("control", CONTROLS.all, ids=lambda control: control.name)
def test_is_seen_to_be_broken(control: Control) -> None:
    assert control.breaks
    for change in control.breaks:
        assert not control.check(change.applied(definition(control.variants[0]))), change


@pytest.mark.parametrize("variant", [*VARIANTS, "rendered"])
def test_ecs_accepts_it(variant: str) -> None:
    operation = botocore.session.get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition")
    task = definition(variant)
    report = ParamValidator().validate(task, operation.input_shape)
    assert not report.has_errors(), report.generate_report()


def test_the_stack_makes_what_the_file_says() -> None:
    stacks = definition("efs")
    for name, value in {"executionRoleArn": "ExecutionRole.Arn", "taskRoleArn": "TaskRole.Arn"}.items():
        assert stacks[name] == value
    values = {
        **PLACEHOLDERS,
        "FILE_SYSTEM_ID": "FileSystem",
        "ACCESS_POINT_ID": "AccessPoint",
        "LOG_GROUP": "LogGroup",
        "PIN_SECRET_ARN": "Pin",
        "SIGNING_KEY_SECRET_ARN": "SigningKey",
        "STORAGE_KEY_SECRET_ARN": "StorageKey",
        "EXECUTION_ROLE_ARN": "ExecutionRole.Arn",
        "TASK_ROLE_ARN": "TaskRole.Arn",
        "CPU_ARCHITECTURE": "X86_64",
        "CPU": "512",
        "MEMORY": "1024",
    }
    text = (ROOT / "fargate" / TEMPLATE).read_text()
    file = json.loads(PLACEHOLDER.sub(lambda match: values[match[1]], text))
    tags = {"tags": [{key: tag[key] for key in ("key", "value")} for tag in stacks["tags"]]}
    assert {**stacks, **tags} == file


@pytest.mark.parametrize("architecture", ["X86_64", "ARM64"])
def test_both_architectures_can_be_rendered(architecture: str) -> None:
    given = {**PLACEHOLDERS, "CPU_ARCHITECTURE": architecture}
    rendered = rendered_definition([f"{name}={value}" for name, value in given.items()])
    assert rendered["runtimePlatform"]["cpuArchitecture"] == architecture
