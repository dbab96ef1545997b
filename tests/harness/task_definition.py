"""The container that a task definition of ECS asks for, and the flags of `docker run` that come to the same.

Whatever a task definition says is translated or refused (Untranslated), so that no control is left out in silence. What
only ECS can do is named here: see ASIDE and LOG.
"""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.confinement import Confinement, Mount
from harness.fargate import PLACEHOLDERS, SECRET
from harness.server import PIN
from mcp_holdfast.cli.fargate import rendered_definition

ASIDE = ("family", "executionRoleArn", "taskRoleArn", "tags")
"""What names a task, and who may mount and read for it: there is no IAM here. Nothing of it reaches the container."""

LOG = "awslogs"
"""CloudWatch's log driver. The engine keeps the log instead."""

ARCHITECTURES = {"X86_64": "amd64", "ARM64": "arm64"}
ARCHITECTURE_OF_MACHINE = {"x86_64": "X86_64", "aarch64": "ARM64"}
CPU_UNITS = 1024
VOLUME = "holdfast"
SECRETS = {
    PLACEHOLDERS["PIN_SECRET_ARN"]: PIN,
    PLACEHOLDERS["SIGNING_KEY_SECRET_ARN"]: "signing-key-" * 4,
    PLACEHOLDERS["STORAGE_KEY_SECRET_ARN"]: "storage-key-" * 4,
}
"""What Secrets Manager would hold."""

NO_DEFAULT = object()


class Untranslated(Exception):
    """A task definition asks for what would be left out here."""


@dataclass(frozen=True)
class HealthCheck:
    """What ECS runs in the container; times are in seconds."""

    command: Sequence[str]
    interval: int
    timeout: int
    retries: int
    start_period: int


@dataclass(frozen=True)
class Task:
    """The one container of a task definition, for the image that is tested in place of `image`.

    `memory` is in MiB, `stop_timeout` in seconds; the sources of the mounts are the task's volumes.
    """

    image: str
    architecture: str
    cpus: float
    memory: int
    port: int
    environment: Mapping[str, str]
    confinement: Confinement
    health_check: HealthCheck
    stop_timeout: int


@dataclass
class Part:
    """A part of a task definition, from which everything has to be taken."""

    path: str
    left: dict[str, Any]

    def take(self, name: str, default: Any = NO_DEFAULT) -> Any:
        if name not in self.left and default is NO_DEFAULT:
            raise Untranslated(f"{self.path}{name} is missing")
        return self.left.pop(name, default)

    def expect(self, name: str, *values: Any) -> Any:
        """Take what may be one of a few values, since another one would need a translation."""
        if (value := self.take(name)) not in values:
            raise Untranslated(f"{self.path}{name} is {value!r}, and only {values} can be translated")
        return value


def rehearsed_definition(
    settings: Mapping[str, str], secrets: Mapping[str, str], **placeholders: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """What `holdfast fargate render` makes for this machine, and the values of its secrets by ARN."""
    values = {**PLACEHOLDERS, "CPU_ARCHITECTURE": ARCHITECTURE_OF_MACHINE[os.uname().machine], **placeholders}
    arns = {name: f"{SECRET}{name}-AbCdEf" for name in secrets}
    definition = rendered_definition(_assigned(values), _assigned(settings), _assigned(arns))
    return definition, SECRETS | {arns[name]: value for name, value in secrets.items()}


def _assigned(values: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]


@contextmanager
def _all_of(path: str, fields: Mapping[str, Any]) -> Iterator[Part]:
    part = Part(path, dict(fields))
    yield part
    if part.left:
        raise Untranslated(f"{path}: nothing here stands for {', '.join(sorted(part.left))}")


def task_of(definition: Mapping[str, Any], secrets: Mapping[str, str]) -> Task:
    """Read a task definition as ECS registers it; `secrets` are the values by ARN.

    Raises:
        Untranslated: it says something that nothing here stands for.

    """
    with _all_of("", definition) as part:
        for name in ASIDE:
            part.take(name, None)
        part.expect("requiresCompatibilities", ["FARGATE"])
        part.expect("networkMode", "awsvpc")
        with _all_of("runtimePlatform.", part.take("runtimePlatform")) as platform:
            platform.expect("operatingSystemFamily", "LINUX")
            architecture = ARCHITECTURES[platform.expect("cpuArchitecture", *ARCHITECTURES)]
        cpus, memory = int(part.take("cpu")) / CPU_UNITS, int(part.take("memory"))
        volumes = [_volume(each) for each in part.take("volumes", [])]
        (container,) = part.take("containerDefinitions")
    with _all_of("containerDefinitions[0].", container) as part:
        part.expect("name", "holdfast")
        part.expect("essential", True)
        part.expect("privileged", False)
        part.expect("readonlyRootFilesystem", True)
        _expect_log(part.take("logConfiguration"))
        mounts = tuple(_mount(each, volumes) for each in part.take("mountPoints", []))
        if unused := set(volumes) - {mount.source for mount in mounts}:
            raise Untranslated(f"mountPoints: the volume {', '.join(sorted(unused))} is not mounted")
        init, tmpfs = _linux_parameters(part.take("linuxParameters"))
        confinement = Confinement(
            user=part.take("user"),
            # Fargate has no dockerSecurityOptions to say so.
            no_new_privileges=False,
            init=init,
            tmpfs=tmpfs,
            limits=dict(_limit(each) for each in part.take("ulimits", [])),
            mounts=mounts,
        )
        return Task(
            image=part.take("image"),
            architecture=architecture,
            cpus=cpus,
            memory=memory,
            port=_port(part.take("portMappings")),
            environment={**_variables(part.take("environment", [])), **_secrets(part.take("secrets", []), secrets)},
            confinement=confinement,
            health_check=_health_check(part.take("healthCheck")),
            stop_timeout=part.take("stopTimeout"),
        )


def _volume(volume: Mapping[str, Any]) -> str:
    """The name of an EFS file system; what is mounted in its place stands for encryption, access point and IAM."""
    with _all_of("volumes.", volume) as part:
        name: str = part.take("name")
        with _all_of("efsVolumeConfiguration.", part.take("efsVolumeConfiguration")) as efs:
            efs.take("fileSystemId")
            efs.expect("transitEncryption", "ENABLED")
            if (authorization := efs.take("authorizationConfig", None)) is not None:
                with _all_of("authorizationConfig.", authorization) as access:
                    access.take("accessPointId")
                    access.expect("iam", "ENABLED")
    return name


def _mount(mount: Mapping[str, Any], volumes: Sequence[str]) -> Mount:
    with _all_of("mountPoints.", mount) as part:
        return Mount(part.expect("sourceVolume", *volumes), part.take("containerPath"), part.take("readOnly", False))


def _linux_parameters(parameters: Mapping[str, Any]) -> tuple[bool, dict[str, Sequence[str]]]:
    with _all_of("linuxParameters.", parameters) as part:
        with _all_of("capabilities.", part.take("capabilities")) as capabilities:
            capabilities.expect("drop", ["ALL"])
        return part.take("initProcessEnabled", False), dict(_tmpfs(each) for each in part.take("tmpfs", []))


def _tmpfs(tmpfs: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    with _all_of("tmpfs.", tmpfs) as part:
        return part.take("containerPath"), (f"size={part.take('size')}m", *part.take("mountOptions", []))


def _limit(limit: Mapping[str, Any]) -> tuple[str, tuple[int, int]]:
    with _all_of("ulimits.", limit) as part:
        return part.take("name"), (part.take("softLimit"), part.take("hardLimit"))


def _port(mappings: Sequence[Mapping[str, Any]]) -> int:
    (mapping,) = mappings
    with _all_of("portMappings.", mapping) as part:
        part.take("name")
        part.expect("protocol", "tcp")
        part.expect("appProtocol", "http")
        return int(part.take("containerPort"))


def _variables(entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    variables = {}
    for entry in entries:
        with _all_of("environment.", entry) as part:
            variables[part.take("name")] = part.take("value")
    return variables


def _secrets(entries: Sequence[Mapping[str, Any]], values: Mapping[str, str]) -> dict[str, str]:
    variables = {}
    for entry in entries:
        with _all_of("secrets.", entry) as part:
            variables[part.take("name")] = values[part.expect("valueFrom", *values)]
    return variables


def _health_check(check: Mapping[str, Any]) -> HealthCheck:
    with _all_of("healthCheck.", check) as part:
        kind, *command = part.take("command")
        if kind != "CMD":
            raise Untranslated(f"healthCheck.command: {kind} is not CMD")
        return HealthCheck(
            command, part.take("interval"), part.take("timeout"), part.take("retries"), part.take("startPeriod")
        )


def _expect_log(configuration: Mapping[str, Any]) -> None:
    with _all_of("logConfiguration.", configuration) as part:
        part.expect("logDriver", LOG)
        with _all_of("options.", part.take("options")) as options:
            for name in ("awslogs-group", "awslogs-region", "awslogs-stream-prefix", "mode", "max-buffer-size"):
                options.take(name)


def docker_flags(task: Task, *, volumes: Mapping[str, str], port: int) -> list[str]:
    """The flags of `docker run` for a task; `volumes` are the engine's by the task's, `port` is on this machine."""
    check = task.health_check
    return [
        f"--platform=linux/{task.architecture}",
        f"--cpus={task.cpus}",
        f"--memory={task.memory}m",
        f"--publish=127.0.0.1:{port}:{task.port}",
        *(f"--env={name}={value}" for name, value in task.environment.items()),
        *_confinement_flags(task.confinement, volumes),
        # The command line has no other form than the shell's.
        f"--health-cmd=exec {shlex.join(check.command)}",
        f"--health-interval={check.interval}s",
        f"--health-timeout={check.timeout}s",
        f"--health-retries={check.retries}",
        f"--health-start-period={check.start_period}s",
        f"--stop-timeout={task.stop_timeout}",
    ]


def _confinement_flags(confinement: Confinement, volumes: Mapping[str, str]) -> Iterator[str]:
    yield from ("--read-only", "--cap-drop=ALL")
    if confinement.user is not None:
        yield f"--user={confinement.user}"
    if confinement.no_new_privileges:
        yield "--security-opt=no-new-privileges"
    if confinement.init:
        yield "--init"
    for directory, options in confinement.tmpfs.items():
        yield f"--tmpfs={directory}:{','.join(options)}"
    for name, (soft, hard) in confinement.limits.items():
        yield f"--ulimit={name}={soft}:{hard}"
    for mount in confinement.mounts:
        # As EFS is mounted: nothing of the image is copied into it, and it keeps its owner.
        options = ",volume-nocopy" + (",readonly" if mount.read_only else "")
        yield f"--mount=type=volume,source={volumes[mount.source]},destination={mount.path}{options}"
