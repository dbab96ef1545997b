"""fargate/terraform asks of the AWS provider what it takes, keeps the controls of the stack, and is that stack.

No package registry has a Terraform of today. So the module is read with a parser of its language, its arguments are
held against what version 6.62 of the provider takes (extract_provider_schema.py), and its values against the
stack's. What Terraform itself says of types is not known here; docs/fargate.md tells what was tried by hand.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest

from harness.fargate import FARGATE, GONE, STACK, VARIANTS, broken
from mcp_holdfast.cli.fargate import PLACEHOLDERS

MODULE = FARGATE / "terraform"
SCHEMA = Path(__file__).with_name("provider-schema.json")
META = {"count", "for_each", "depends_on", "lifecycle", "provider"}
KINDS = {"resource": "resources", "data": "data-sources", "ephemeral": "ephemeral-resources"}

Values = dict[str, Any]
Block = tuple[str, str, str, Values]


def plain(node: Any) -> Any:
    """What the parser gives, with strings that are strings and not their source."""
    if isinstance(node, dict):
        return {plain(name): plain(value) for name, value in node.items() if name != "__comments__"}
    if isinstance(node, list):
        return [plain(item) for item in node]
    return node[1:-1] if isinstance(node, str) and re.fullmatch(r'"[^"]*"', node) else node


@cache
def parsed(module: Path) -> Values:
    """All files of a module as one."""
    whole: Values = {}
    for file in sorted(module.glob("*.tf")):
        for kind, blocks in plain(hcl2.loads(file.read_text())).items():
            whole.setdefault(kind, []).extend(blocks)
    return whole


def blocks_of(module: Values) -> Iterator[Block]:
    """Kind, type, name and arguments of all that the provider makes or looks up."""
    for kind in KINDS:
        for block in module.get(kind, []):
            for type_, named in block.items():
                for name, arguments in named.items():
                    if type_ != "__is_block__" and name != "__is_block__":
                        yield kind, type_, name, arguments


def resources() -> dict[str, Values]:
    return {
        f"{type_}.{name}": arguments for kind, type_, name, arguments in blocks_of(parsed(MODULE)) if kind == "resource"
    }


def schema_of(kind: str, type_: str) -> Values:
    schema: Values = json.loads(SCHEMA.read_text())[f"{KINDS[kind]}/{type_}"]
    return schema


def problems_of(arguments: Values, schema: Values, where: str = "") -> Iterator[str]:
    """What the provider would not take."""
    given = {name: value for name, value in arguments.items() if name not in {*META, "__is_block__", "dynamic"}}
    for dynamic in arguments.get("dynamic", []):
        given |= {name: each["content"] for name, each in dynamic.items() if name != "__is_block__"}
    yield from (f"{where}{name} is not known" for name in given.keys() - schema.keys())
    missing = {name for name, each in schema.items() if each["required"]} - given.keys()
    yield from (f"{where}{name} is missing" for name in missing)
    for name in given.keys() & schema.keys():
        is_block = isinstance(given[name], list) and all(isinstance(each, dict) for each in given[name])
        is_block = is_block and bool(given[name]) and "__is_block__" in given[name][0]
        if is_block != ("block" in schema[name]):
            yield f"{where}{name} is {'a' if is_block else 'no'} block"
        elif is_block:
            for block in given[name]:
                yield from problems_of(block, schema[name]["block"], f"{where}{name}/")


@pytest.mark.parametrize(
    ("kind", "type_", "arguments"),
    [pytest.param(kind, type_, each, id=f"{type_}.{name}") for kind, type_, name, each in blocks_of(parsed(MODULE))],
)
def test_the_provider_takes_every_argument(kind: str, type_: str, arguments: Values) -> None:
    assert list(problems_of(arguments, schema_of(kind, type_))) == []


@pytest.mark.parametrize(
    ("type_", "path", "value"),
    [
        ("aws_efs_file_system", "encrypt", True),
        ("aws_efs_access_point", "file_system_id", GONE),
        ("aws_efs_access_point", "posix_user/0/uid", GONE),
        ("aws_efs_access_point", "posix_user", {"uid": 1, "gid": 1}),
        ("aws_ecs_service", "deployment_circuit_breaker/0/roll_back", True),
        ("aws_ecs_task_definition", "container_definitions", GONE),
        ("aws_ecs_task_definition", "dynamic/0/volume/content/0/efs_volume_configuration/0/file_system", "x"),
        ("aws_lb_target_group", "health_check/0/threshold", 2),
    ],
)
def test_what_the_provider_would_not_take_is_noticed(type_: str, path: str, value: Any) -> None:
    arguments = broken(resources()[f"{type_}.this"], path, value)
    assert list(problems_of(arguments, schema_of("resource", type_)))


def sources() -> str:
    return "\n".join(file.read_text() for file in sorted(MODULE.glob("*.tf")))


def declared(module: Values) -> set[str]:
    """The addresses that expressions may name."""
    return {
        *(f"{'' if kind == 'resource' else f'{kind}.'}{type_}.{name}" for kind, type_, name, _ in blocks_of(module)),
        *(f"var.{name}" for each in module["variable"] for name in each if name != "__is_block__"),
        *(f"local.{name}" for each in module["locals"] for name in each if name != "__is_block__"),
    }


def test_every_expression_names_what_is_there() -> None:
    code = re.sub(r"^\s*#.*$", "", sources(), flags=re.MULTILINE)
    named = re.findall(r"(?<![\w.\"])((?:data\.|ephemeral\.)?aws_\w+\.\w+|(?:var|local)\.\w+)", code)
    assert len(named) > 100
    assert set(named) - declared(parsed(MODULE)) == set()


def test_every_variable_is_used_and_described_by_its_name_or_a_sentence() -> None:
    names = {name for name in declared(parsed(MODULE)) if name.startswith("var.")}
    assert {name for name in names if not re.search(rf"{re.escape(name)}\b", sources())} == set()


def test_the_task_definition_is_the_file_that_is_rendered_elsewhere() -> None:
    (definition,) = [each["definition"] for each in parsed(MODULE)["locals"] if "definition" in each]
    assert 'templatefile("${path.module}/../task-definition.json"' in definition
    filled = set(re.findall(r"\b([A-Z][A-Z_]+) =", definition))
    assert filled == PLACEHOLDERS.keys()
    task = resources()["aws_ecs_task_definition.this"]
    assert task["container_definitions"] == "${jsonencode([local.container_definition])}"
    (container,) = [each["container_definition"] for each in parsed(MODULE)["locals"] if "container_definition" in each]
    # Nothing else of the container is changed.
    assert container.startswith("${merge(local.container, {")
    assert re.findall(r"[{,] *(\w+) = (?:concat|\[for mount)", container) == ["mountPoints", "environment", "secrets"]


SAME: dict[str, tuple[str, str]] = {
    "EFS.1, EFS.8 encrypted": ("aws_efs_file_system.this/encrypted", "FileSystem/Encrypted"),
    "EFS.2, EFS.7 backed up": ("aws_efs_backup_policy.this/backup_policy/0/status", "FileSystem/BackupPolicy/Status"),
    "EFS lifecycle": (
        "aws_efs_file_system.this/lifecycle_policy/0/transition_to_ia",
        "FileSystem/LifecyclePolicies/0/TransitionToIA",
    ),
    "EFS performance": ("aws_efs_file_system.this/performance_mode", "FileSystem/PerformanceMode"),
    "EFS.4 user": ("aws_efs_access_point.this/posix_user/0/uid", "AccessPoint/PosixUser/Uid"),
    "EFS.4 group": ("aws_efs_access_point.this/posix_user/0/gid", "AccessPoint/PosixUser/Gid"),
    "EFS.4 owner": (
        "aws_efs_access_point.this/root_directory/0/creation_info/0/owner_uid",
        "AccessPoint/RootDirectory/CreationInfo/OwnerUid",
    ),
    "EFS.4 permissions": (
        "aws_efs_access_point.this/root_directory/0/creation_info/0/permissions",
        "AccessPoint/RootDirectory/CreationInfo/Permissions",
    ),
    "DynamoDB.1 on demand": ("aws_dynamodb_table.this/billing_mode", "Table/BillingMode"),
    "DynamoDB.2 no restored past": (
        "aws_dynamodb_table.this/point_in_time_recovery/0/enabled",
        "Table/PointInTimeRecoverySpecification/PointInTimeRecoveryEnabled",
    ),
    "DynamoDB.6 protected": ("aws_dynamodb_table.this/deletion_protection_enabled", "Table/DeletionProtectionEnabled"),
    "DynamoDB partition": ("aws_dynamodb_table.this/hash_key", "Table/KeySchema/0/AttributeName"),
    "DynamoDB sort": ("aws_dynamodb_table.this/range_key", "Table/KeySchema/1/AttributeName"),
    "DynamoDB expiry": ("aws_dynamodb_table.this/ttl/0/attribute_name", "Table/TimeToLiveSpecification/AttributeName"),
    "EC2 port of the tasks": (
        "aws_vpc_security_group_ingress_rule.tasks_from_load_balancer/from_port",
        "TaskSecurityGroup/SecurityGroupIngress/0/FromPort",
    ),
    "EC2 port of the volume": (
        "aws_vpc_security_group_ingress_rule.mount_targets_from_tasks/to_port",
        "MountTargetSecurityGroup/SecurityGroupIngress/0/ToPort",
    ),
    "ECS.10 platform": ("aws_ecs_service.this/platform_version", "Service/PlatformVersion"),
    "ECS.12 insights": ("aws_ecs_cluster.this/setting/0/value", "Cluster/ClusterSettings/0/Value"),
    "ECS Exec off": ("aws_ecs_service.this/enable_execute_command", "Service/EnableExecuteCommand"),
    "ECS capacity": (
        "aws_ecs_service.this/capacity_provider_strategy/1/capacity_provider",
        "Service/CapacityProviderStrategy/1/CapacityProvider",
    ),
    "ECS weight on demand": (
        "aws_ecs_service.this/capacity_provider_strategy/0/weight",
        "Service/CapacityProviderStrategy/0/Weight",
    ),
    "ECS lowest": (
        "aws_ecs_service.this/deployment_minimum_healthy_percent",
        "Service/DeploymentConfiguration/MinimumHealthyPercent",
    ),
    "ECS highest": (
        "aws_ecs_service.this/deployment_maximum_percent",
        "Service/DeploymentConfiguration/MaximumPercent",
    ),
    "ECS circuit breaker": (
        "aws_ecs_service.this/deployment_circuit_breaker/0/rollback",
        "Service/DeploymentConfiguration/DeploymentCircuitBreaker/Rollback",
    ),
    "ECS grace": ("aws_ecs_service.this/health_check_grace_period_seconds", "Service/HealthCheckGracePeriodSeconds"),
    "ELB.1 redirect": (
        "aws_lb_listener.http/default_action/0/redirect/0/protocol",
        "HttpListener/DefaultActions/0/RedirectConfig/Protocol",
    ),
    "ELB.4 headers": ("aws_lb.this/drop_invalid_header_fields", "LoadBalancer/LoadBalancerAttributes/1/Value"),
    "ELB.6 protected": ("aws_lb.this/enable_deletion_protection", "LoadBalancer/LoadBalancerAttributes/3/Value"),
    "ELB.12 desync": ("aws_lb.this/desync_mitigation_mode", "LoadBalancer/LoadBalancerAttributes/2/Value"),
    "ELB idle time": ("aws_lb.this/idle_timeout", "LoadBalancer/LoadBalancerAttributes/0/Value"),
    "ELB.17 TLS": ("aws_lb_listener.https/ssl_policy", "HttpsListener/SslPolicy"),
    "ELB health path": ("aws_lb_target_group.this/health_check/0/path", "TargetGroup/HealthCheckPath"),
    "ELB health time": ("aws_lb_target_group.this/health_check/0/timeout", "TargetGroup/HealthCheckTimeoutSeconds"),
    "ELB health interval": (
        "aws_lb_target_group.this/health_check/0/interval",
        "TargetGroup/HealthCheckIntervalSeconds",
    ),
    "ELB health threshold": (
        "aws_lb_target_group.this/health_check/0/unhealthy_threshold",
        "TargetGroup/UnhealthyThresholdCount",
    ),
    "ELB health answer": ("aws_lb_target_group.this/health_check/0/matcher", "TargetGroup/Matcher/HttpCode"),
    "ELB delay": ("aws_lb_target_group.this/deregistration_delay", "TargetGroup/TargetGroupAttributes/0/Value"),
    "scaling": (
        "aws_appautoscaling_policy.cpu/target_tracking_scaling_policy_configuration/0/target_value",
        "ScalingPolicy/TargetTrackingScalingPolicyConfiguration/TargetValue",
    ),
    "CloudWatch no task": ("aws_cloudwatch_metric_alarm.no_healthy_task/metric_name", "NoHealthyTask/MetricName"),
    "CloudWatch busy": ("aws_cloudwatch_metric_alarm.file_system_busy/threshold", "FileSystemBusy/Threshold"),
    "CloudWatch burst": ("aws_cloudwatch_metric_alarm.burst_credits_low/threshold", "BurstCreditsLow/Threshold"),
}


def at(document: Any, path: str) -> Any:
    for part in path.split("/"):
        document = document[int(part) if part.isdecimal() else part]
    return document


def of_the_stack(path: str) -> Any:
    name, _, property_ = path.partition("/")
    variant = "dynamodb" if name == "Table" else "everything"
    return at(STACK.resources(**VARIANTS[variant])[name]["Properties"], property_)


def is_the_same(module: Values, control: str) -> bool:
    here, there = SAME[control]
    # Numbers and truth values are strings in some of CloudFormation's properties.
    return str(at(module, here)).lower() == str(of_the_stack(there)).lower()


@pytest.mark.parametrize("control", SAME)
def test_it_is_as_in_the_stack(control: str) -> None:
    assert is_the_same(resources(), control)


@pytest.mark.parametrize("control", SAME)
def test_what_is_not_as_in_the_stack_is_noticed(control: str) -> None:
    assert not is_the_same(broken(resources(), SAME[control][0], "another"), control)


def test_roles_may_do_what_those_of_the_stack_may() -> None:
    policies = [
        policy["Properties"]["PolicyDocument"]
        for variant in ("efs", "dynamodb")
        for policy in STACK.resources(**VARIANTS[variant]).values()
        if policy["Type"] == "AWS::IAM::RolePolicy"
    ]
    of_stack = set(re.findall(r'"([a-z0-9]+:[A-Z]\w+)"', json.dumps(policies)))
    roles = [value["policy"] for name, value in resources().items() if name.startswith("aws_iam_role_policy.")]
    assert set(re.findall(r'"([a-z0-9]+:[A-Z]\w+)"', "".join(roles))) - {"elasticfilesystem:AccessPointArn"} == (
        of_stack - {"elasticfilesystem:AccessPointArn"}
    )


def test_the_file_system_refuses_what_that_of_the_stack_refuses() -> None:
    policy = resources()["aws_efs_file_system_policy.this"]["policy"]
    assert re.findall(r'Effect = "(\w+)"', policy) == ["Deny", "Deny"]
    assert '{"aws:SecureTransport" = "false"}' in policy
    assert '{"elasticfilesystem:AccessPointArn" = "true"}' in policy


def test_nothing_that_sign_ins_depend_on_is_destroyed() -> None:
    kept = {name for name, each in resources().items() if each.get("lifecycle", [{}])[0].get("prevent_destroy")}
    assert kept == {"aws_efs_file_system.this", "aws_dynamodb_table.this", "aws_secretsmanager_secret.this"}


def test_no_secret_gets_into_the_state() -> None:
    version = resources()["aws_secretsmanager_secret_version.this"]
    assert "secret_string" not in version
    assert version["secret_string_wo"].startswith("${ephemeral.")
