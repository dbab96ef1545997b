"""Each file of compose/ keeps the same rules, and each rule notices when it is broken."""

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

COMPOSE = Path(__file__).parents[2] / "compose"
FILES = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(COMPOSE.glob("*.yaml"))}
SERVICES = {f"{file}: {name}": (FILES[file], name) for file in FILES for name in FILES[file]["services"]}

HOLDFAST = "${IMAGE:-holdfast}"
ENGINES = ("redis", "postgres")
SECRET = re.compile(r"PIN|KEY|SECRET|PASSWORD|TOKEN|STORAGE_URL")

Service = Mapping[str, Any]
Rule = Callable[[Service], bool]


def only_volumes_and_tmpfs_are_writable(service: Service) -> bool:
    return service.get("read_only") is True


def no_capability_is_left(service: Service) -> bool:
    return service.get("cap_drop") == ["ALL"] and "cap_add" not in service and "privileged" not in service


def no_privilege_can_be_gained(service: Service) -> bool:
    return service.get("security_opt") == ["no-new-privileges:true"]


def nothing_runs_as_root(service: Service) -> bool:
    """Holdfast's and HAProxy's images have a user of their own; those of engines begin as root unless they are told."""
    return service.get("user") not in {None, "root", "0"} if is_engine(service) else "user" not in service


def nothing_of_the_host_is_shared(service: Service) -> bool:
    """CIS Docker 5.6, 5.10, 5.16 to 5.18, 5.21, 5.31 and 5.32: no namespace, device or directory of the host."""
    of_the_host = {"network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup", "cgroup_parent", "devices"}
    mounts = service.get("volumes", [])
    return not of_the_host & service.keys() and all(
        re.fullmatch(r"[a-z]+:/[\w/]+|\./[\w.]+:/[\w./]+:ro", str(mount)) for mount in mounts
    )


def its_health_is_looked_at(service: Service) -> bool:
    """CIS Docker 5.27: the image's check is not turned off."""
    return not service.get("healthcheck", {}).get("disable")


def it_starts_again_after_a_crash(service: Service) -> bool:
    return bool(service.get("restart") == "unless-stopped")


def it_may_end_before_it_is_killed(service: Service) -> bool:
    """Longer than Holdfast's 20 s for what it answers; Compose's own default is 10 s."""
    return service.get("stop_grace_period") in {"30s", "1m"}


def the_image_is_pinned_or_made_here(service: Service) -> bool:
    image = service.get("image", "")
    if image == HOLDFAST:
        return bool(service.get("pull_policy") == "never")
    return re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z/]+:\d+(\.\d+)+(@sha256:[0-9a-f]{64})?\}", image) is not None


def no_secret_is_in_the_environment(service: Service) -> bool:
    names = service.get("environment", {})
    return isinstance(names, dict) and all(name.endswith("_FILE") for name in names if SECRET.search(name))


def only_this_machine_reaches_it_unless_told_otherwise(service: Service) -> bool:
    return all(str(port).startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in service.get("ports", []))


def an_engine_is_reached_by_holdfast_alone(service: Service) -> bool:
    return not is_engine(service) or ("ports" not in service and service.get("networks") == ["store"])


def an_engine_tells_when_it_can_be_used(service: Service) -> bool:
    """So does Holdfast's image; HAProxy needs nothing to be ready."""
    return not is_engine(service) or bool(service.get("healthcheck", {}).get("test"))


def holdfast_waits_for_its_engine(service: Service) -> bool:
    if "HOLDFAST_STORAGE_URL_FILE" not in service.get("environment", {}):
        return True
    waits = list(service.get("depends_on", {}).values()) == [{"condition": "service_healthy"}]
    return waits and "HOLDFAST_STORAGE_WAIT" in service["environment"]


def is_engine(service: Service) -> bool:
    return any(engine in service.get("image", "") for engine in ENGINES)


REDIS, WITH_REDIS = (FILES["redis"]["services"][name] for name in ("redis", "holdfast"))
MISSING = object()
BROKEN: list[tuple[Rule, Service, str, Any]] = [
    (only_volumes_and_tmpfs_are_writable, REDIS, "read_only", MISSING),
    (only_volumes_and_tmpfs_are_writable, REDIS, "read_only", False),
    (no_capability_is_left, REDIS, "cap_drop", MISSING),
    (no_capability_is_left, REDIS, "cap_drop", ["NET_RAW"]),
    (no_capability_is_left, REDIS, "cap_add", ["CHOWN"]),
    (no_capability_is_left, REDIS, "privileged", True),
    (no_privilege_can_be_gained, REDIS, "security_opt", MISSING),
    (no_privilege_can_be_gained, REDIS, "security_opt", ["no-new-privileges:true", "seccomp:unconfined"]),
    (nothing_runs_as_root, REDIS, "user", MISSING),
    (nothing_runs_as_root, REDIS, "user", "root"),
    (nothing_runs_as_root, WITH_REDIS, "user", "root"),
    (nothing_of_the_host_is_shared, WITH_REDIS, "network_mode", "host"),
    (nothing_of_the_host_is_shared, WITH_REDIS, "pid", "host"),
    (nothing_of_the_host_is_shared, WITH_REDIS, "devices", ["/dev/fuse"]),
    (nothing_of_the_host_is_shared, WITH_REDIS, "volumes", ["/var/run/docker.sock:/var/run/docker.sock"]),
    (nothing_of_the_host_is_shared, WITH_REDIS, "volumes", ["./data:/data"]),
    (nothing_of_the_host_is_shared, WITH_REDIS, "volumes", [{"type": "bind", "source": "/etc", "target": "/data"}]),
    (its_health_is_looked_at, WITH_REDIS, "healthcheck", {"disable": True}),
    (it_starts_again_after_a_crash, REDIS, "restart", MISSING),
    (it_starts_again_after_a_crash, REDIS, "restart", "no"),
    (it_may_end_before_it_is_killed, WITH_REDIS, "stop_grace_period", MISSING),
    (it_may_end_before_it_is_killed, WITH_REDIS, "stop_grace_period", "5s"),
    (the_image_is_pinned_or_made_here, REDIS, "image", "${REDIS_IMAGE:-redis}"),
    (the_image_is_pinned_or_made_here, REDIS, "image", "${REDIS_IMAGE:-redis:latest}"),
    (the_image_is_pinned_or_made_here, REDIS, "image", "${REDIS_IMAGE:-redis:8}"),
    (the_image_is_pinned_or_made_here, REDIS, "image", "redis:8.6.6"),
    (the_image_is_pinned_or_made_here, WITH_REDIS, "pull_policy", MISSING),
    (no_secret_is_in_the_environment, WITH_REDIS, "environment", {"HOLDFAST_PIN": "${PIN}"}),
    (no_secret_is_in_the_environment, WITH_REDIS, "environment", {"HOLDFAST_STORAGE_URL": "redis://:a@redis"}),
    (no_secret_is_in_the_environment, WITH_REDIS, "environment", ["HOLDFAST_SIGNING_KEY=a"]),
    (only_this_machine_reaches_it_unless_told_otherwise, WITH_REDIS, "ports", ["8000:8000"]),
    (only_this_machine_reaches_it_unless_told_otherwise, WITH_REDIS, "ports", ["${BIND_ADDRESS:-0.0.0.0}:8000:8000"]),
    (only_this_machine_reaches_it_unless_told_otherwise, WITH_REDIS, "ports", [{"target": 8000, "published": 8000}]),
    (an_engine_is_reached_by_holdfast_alone, REDIS, "ports", ["${BIND_ADDRESS:-127.0.0.1}:6379:6379"]),
    (an_engine_is_reached_by_holdfast_alone, REDIS, "networks", ["store", "outside"]),
    (an_engine_is_reached_by_holdfast_alone, REDIS, "networks", MISSING),
    (an_engine_tells_when_it_can_be_used, REDIS, "healthcheck", MISSING),
    (an_engine_tells_when_it_can_be_used, REDIS, "healthcheck", {"disable": True}),
    (holdfast_waits_for_its_engine, WITH_REDIS, "depends_on", MISSING),
    (holdfast_waits_for_its_engine, WITH_REDIS, "depends_on", {"redis": {"condition": "service_started"}}),
    (holdfast_waits_for_its_engine, WITH_REDIS, "environment", {"HOLDFAST_STORAGE_URL_FILE": "/run/secrets/url"}),
]
RULES = list(dict.fromkeys(rule for rule, *_ in BROKEN))


def name_of(value: Any) -> str | None:
    return value.__name__ if callable(value) else value if isinstance(value, str) else None


@pytest.mark.parametrize("rule", RULES, ids=name_of)
@pytest.mark.parametrize("service", SERVICES)
def test_each_service_keeps_each_rule(service: str, rule: Rule) -> None:
    file, name = SERVICES[service]
    assert rule(file["services"][name])


@pytest.mark.parametrize(("rule", "service", "key", "value"), BROKEN, ids=name_of)
def test_each_rule_notices_what_breaks_it(rule: Rule, service: Service, key: str, value: Any) -> None:
    broken = {**copy.deepcopy(dict(service)), key: value}
    if value is MISSING:
        del broken[key]
    assert rule(service)
    assert not rule(broken)


def test_all_files_are_looked_at() -> None:
    assert set(FILES) == {"entra", "local", "postgres", "redis", "replicas"}


def test_nothing_is_kept_by_holdfast_where_an_engine_keeps_it() -> None:
    for engine in ENGINES:
        assert "volumes" not in FILES[engine]["services"]["holdfast"]
    for file in ("local", "entra"):
        assert FILES[file]["services"]["holdfast"]["volumes"] == ["holdfast:/data"]


def test_the_engines_network_leads_nowhere() -> None:
    for engine in ENGINES:
        assert FILES[engine]["networks"]["store"] == {"internal": True}


@pytest.mark.parametrize("file", [file for file in FILES if "secrets" in FILES[file]])
def test_each_secret_is_a_file_that_somebody_reads(file: str) -> None:
    for name, secret in FILES[file]["secrets"].items():
        assert secret == {"file": f"${{SECRETS:-./secrets}}/{name}"}
    given = {
        secret["source"] if isinstance(secret, dict) else secret
        for service in FILES[file]["services"].values()
        for secret in service.get("secrets", [])
    }
    assert given == set(FILES[file]["secrets"])


@pytest.mark.parametrize("file", [file for file in FILES if "secrets" in FILES[file]])
def test_holdfast_is_told_of_each_secret_that_it_is_given(file: str) -> None:
    for service in FILES[file]["services"].values():
        if service["image"] == HOLDFAST:
            told = {value for name, value in service["environment"].items() if name.endswith("_FILE")}
            assert told == {f"/run/secrets/{secret}" for secret in service["secrets"]}


def test_redis_has_on_its_disk_what_it_acknowledged_and_forgets_nothing() -> None:
    options = dict(option.removeprefix("--").split(" ", 1) for option in REDIS["command"])
    kept = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    assert kept.items() <= options.items()


def test_the_page_tells_every_variable_of_these_files() -> None:
    used = {name for file in COMPOSE.glob("*.yaml") for name in re.findall(r"\$\{([A-Z_]+)", file.read_text())}
    told = set(re.findall(r"\b[A-Z_]+\b", (COMPOSE.parent / "docs/compose.md").read_text()))
    assert used - told == set()


def test_the_page_on_engines_moves_a_store_between_these_files() -> None:
    page = (COMPOSE.parent / "docs/engines.md").read_text()
    postgres, local = FILES["postgres"], FILES["local"]
    assert "store" in postgres["services"]["postgres"]["networks"]
    assert f"--network {postgres['name']}_store " in page
    assert local["volumes"]["holdfast"]["name"] == "${VOLUME:-holdfast}"
    assert "--volume holdfast:/data " in page
    assert postgres["secrets"]["postgres_url"]["file"] == "${SECRETS:-./secrets}/postgres_url"
    assert "compose/secrets/postgres_url:" in page
