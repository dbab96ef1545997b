"""fargate/stack.yaml keeps every control, whatever its parameters make of it, and cfn-lint finds nothing.

Controls of AWS Security Hub and of the CIS AWS Foundations Benchmark (3.0) are named by their identifiers; each must
notice each change that breaks it. Those of the container are in test_task_definition.py.
"""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.controls import Control, Controls
from harness.fargate import EVERYTHING, GONE, STACK, VARIANTS
from mcp_holdfast.http import health
from mcp_holdfast.serve import gunicorn_settings
from mcp_holdfast.settings import Environment, load_settings
from mcp_holdfast.storage.backends.dynamodb import ACTIONS as TABLE_ACTIONS
from mcp_holdfast.storage.backends.dynamodb import KEY_SCHEMA, TTL_ATTRIBUTE

Resources = dict[str, dict[str, Any]]

NEW_FILES = ("efs", "everything", "own certificate")
FILES = (*NEW_FILES, "restored")
ANYWHERE = "0.0.0.0/0"
ALARMS = {
    *("HTTPCode_Target_5XX_Count", "HTTPCode_ELB_5XX_Count", "UnHealthyHostCount", "HealthyHostCount"),
    *("PercentIOLimit", "BurstCreditBalance", "ThrottledRequests"),
}

CONTROLS = Controls(tuple(VARIANTS))
control = CONTROLS.control


@cache
def resources(variant: str) -> Resources:
    return STACK.resources(**VARIANTS[variant])


def of_type(stack: Resources, *types: str) -> dict[str, dict[str, Any]]:
    """The properties of all resources of these types, by the resource's name."""
    return {name: each.get("Properties", {}) for name, each in stack.items() if each["Type"] in types}


def attributes(stack: Resources, name: str) -> dict[str, str]:
    """The attributes of a load balancer or target group."""
    (kind,) = [kind for kind in stack[name]["Properties"] if kind.endswith("Attributes")]
    return {each["Key"]: each["Value"] for each in stack[name]["Properties"][kind]}


def statements(stack: Resources) -> list[dict[str, Any]]:
    """Everything that the roles may do."""
    policies = of_type(stack, "AWS::IAM::RolePolicy").values()
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# The volume.


@control(
    "EFS.1, EFS.8, CIS AWS 2.4.1 encrypted where it lies",
    ("FileSystem/Properties/Encrypted", False),
    ("FileSystem/Properties/Encrypted", GONE),
    of=NEW_FILES,
)
def _(stack: Resources) -> object:
    return stack["FileSystem"]["Properties"].get("Encrypted") is True


@control(
    "EFS.2, EFS.7 backed up every day",
    ("FileSystem/Properties/BackupPolicy/Status", "DISABLED"),
    ("FileSystem/Properties/BackupPolicy", GONE),
    of=NEW_FILES,
)
def _(stack: Resources) -> object:
    return stack["FileSystem"]["Properties"].get("BackupPolicy") == {"Status": "ENABLED"}


@control("EFS.3 the tasks see one directory", ("AccessPoint/Properties/RootDirectory/Path", "/"), of=FILES)
def _(stack: Resources) -> object:
    return len(stack["AccessPoint"]["Properties"]["RootDirectory"]["Path"]) > 1


@control(
    "EFS.4 the tasks are one user there, the image's",
    ("AccessPoint/Properties/PosixUser", GONE),
    ("AccessPoint/Properties/PosixUser/Uid", "0"),
    ("AccessPoint/Properties/RootDirectory/CreationInfo/OwnerUid", "0"),
    ("AccessPoint/Properties/RootDirectory/CreationInfo/Permissions", "0777"),
    of=FILES,
)
def _(stack: Resources) -> object:
    point = stack["AccessPoint"]["Properties"]
    made = point["RootDirectory"]["CreationInfo"]
    (container,) = stack["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    user = point.get("PosixUser", {})
    return f"{user.get('Uid')}:{user.get('Gid')}" == container["User"] and (
        made["OwnerUid"],
        made["OwnerGid"],
        made["Permissions"],
    ) == (user["Uid"], user["Gid"], "0700")


@control(
    "EFS refuses who does not encrypt or comes past the access points, and allows nothing by itself",
    ("FileSystem/Properties/FileSystemPolicy", GONE),
    ("FileSystem/Properties/FileSystemPolicy/Statement/0/Condition/Bool", {"aws:SecureTransport": "true"}),
    ("FileSystem/Properties/FileSystemPolicy/Statement/1", GONE),
    ("FileSystem/Properties/FileSystemPolicy/Statement/1/Effect", "Allow"),
    of=NEW_FILES,
)
def _(stack: Resources) -> object:
    policy = stack["FileSystem"]["Properties"].get("FileSystemPolicy", {"Statement": []})
    conditions = [statement["Condition"] for statement in policy["Statement"]]
    return all(statement["Effect"] == "Deny" for statement in policy["Statement"]) and conditions == [
        {"Bool": {"aws:SecureTransport": "false"}},
        {"Null": {"elasticfilesystem:AccessPointArn": "true"}},
    ]


@control(
    "EFS moves what nobody reads to cheaper storage, and back",
    ("FileSystem/Properties/LifecyclePolicies", GONE),
    ("FileSystem/Properties/LifecyclePolicies/1", GONE),
    of=NEW_FILES,
)
def _(stack: Resources) -> object:
    policies = stack["FileSystem"]["Properties"].get("LifecyclePolicies", [])
    return {name for policy in policies for name in policy} == {"TransitionToIA", "TransitionToPrimaryStorageClass"}


@control(
    "EFS has a mount target in each subnet of the tasks",
    ("MountTargetB/Properties/SubnetId", "subnet-0000000000000000c"),
    ("MountTargetA", GONE),
    of=FILES,
)
def _(stack: Resources) -> object:
    mounted = {target["SubnetId"] for target in of_type(stack, "AWS::EFS::MountTarget").values()}
    return mounted == set(stack["Service"]["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]["Subnets"])


@control(
    "EFS: the volume is there before a task wants it",
    ("Service/DependsOn", ["HttpsListener"]),
    ("StorageIsThere/Metadata/WaitsFor", ["MountTargetA"]),
    of=FILES,
)
def _(stack: Resources) -> object:
    waits_for = set(stack["StorageIsThere"]["Metadata"]["WaitsFor"])
    return "StorageIsThere" in stack["Service"]["DependsOn"] and waits_for >= {
        *of_type(stack, "AWS::EFS::MountTarget"),
        "VolumePolicy",
    }


@control(
    "ECS.2, EFS.6 no address of the internet is given to a task, unless that was asked for",
    ("Service/Properties/NetworkConfiguration/AwsvpcConfiguration/AssignPublicIp", "ENABLED"),
)
def _(stack: Resources) -> object:
    return bool(
        stack["Service"]["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"] == "DISABLED"
    )


# What outlives the stack.


@control(
    "nothing that sign-ins depend on goes away with the stack",
    ("StorageKey/DeletionPolicy", "Delete"),
    ("SigningKey/UpdateReplacePolicy", GONE),
    ("Pin/DeletionPolicy", GONE),
    ("FileSystem/DeletionPolicy", "Delete"),
    ("LogGroup/DeletionPolicy", GONE),
)
def _(stack: Resources) -> object:
    kinds = {"AWS::EFS::FileSystem", "AWS::DynamoDB::Table", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup"}
    return all(
        each.get("DeletionPolicy") == "RetainExceptOnCreate" and each.get("UpdateReplacePolicy") == "Retain"
        for each in stack.values()
        if each["Type"] in kinds
    )


# The table.


@control(
    "DynamoDB.1 it grows with what is asked of it",
    ("Table/Properties/BillingMode", "PROVISIONED"),
    of=("dynamodb",),
)
def _(stack: Resources) -> object:
    return stack["Table"]["Properties"]["BillingMode"] == "PAY_PER_REQUEST"


@control(
    "DynamoDB.2 turned around: no restored past brings back revoked sessions",
    ("Table/Properties/PointInTimeRecoverySpecification/PointInTimeRecoveryEnabled", True),
    of=("dynamodb",),
)
def _(stack: Resources) -> object:
    return stack["Table"]["Properties"]["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] is False


@control("DynamoDB.6 protected from deletion", ("Table/Properties/DeletionProtectionEnabled", False), of=("dynamodb",))
def _(stack: Resources) -> object:
    return stack["Table"]["Properties"]["DeletionProtectionEnabled"] is True


@control(
    "DynamoDB has the keys and the expiry that the store uses",
    ("Table/Properties/TimeToLiveSpecification/AttributeName", "expires_at"),
    ("Table/Properties/TimeToLiveSpecification/Enabled", False),
    ("Table/Properties/KeySchema/0/AttributeName", "key"),
    of=("dynamodb",),
)
def _(stack: Resources) -> object:
    table = stack["Table"]["Properties"]
    return {key["AttributeName"]: key["KeyType"] for key in table["KeySchema"]} == KEY_SCHEMA and table[
        "TimeToLiveSpecification"
    ] == {"AttributeName": TTL_ATTRIBUTE, "Enabled": True}


# Secrets.


@control(
    "keys are of the length that the server wants, and without what a list or a shell would cut",
    ("StorageKey/Properties/GenerateSecretString/PasswordLength", 16),
    ("SigningKey/Properties/GenerateSecretString/ExcludePunctuation", False),
    ("Pin/Properties/GenerateSecretString/PasswordLength", 6),
)
def _(stack: Resources) -> object:
    made = {name: each["GenerateSecretString"] for name, each in of_type(stack, "AWS::SecretsManager::Secret").items()}
    return (
        made.keys() == {"Pin", "SigningKey", "StorageKey"}
        and all(each["ExcludePunctuation"] for each in made.values())
        and all(made[name]["PasswordLength"] >= 32 for name in ("SigningKey", "StorageKey"))
        and made["Pin"]["PasswordLength"] >= 12
    )


@control(
    "a changed key is accepted beside its successor",
    ("TaskDefinition/Properties/ContainerDefinitions/0/Secrets/3/ValueFrom", "SigningKey"),
    ("TaskDefinition/Properties/ContainerDefinitions/0/Secrets/4", GONE),
    of=("everything",),
)
def _(stack: Resources) -> object:
    (container,) = stack["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    secrets = {secret["Name"]: secret["ValueFrom"] for secret in container["Secrets"]}
    return (
        secrets.get("HOLDFAST_STORAGE_KEY_PREVIOUS") == "StorageKey::AWSPREVIOUS:"
        and secrets.get("HOLDFAST_SIGNING_KEY_PREVIOUS") == "SigningKey::AWSPREVIOUS:"
    )


# Roles.


@control(
    "IAM.1, CIS AWS 1.16 nobody may do everything",
    ("ExecutionPolicy/Properties/PolicyDocument/Statement/1/Resource", "*"),
    ("ExecutionPolicy/Properties/PolicyDocument/Statement/3/Resource", ["*"]),
)
def _(stack: Resources) -> object:
    return all(
        "*" not in as_list(statement["Resource"]) or statement["Action"] == "ecr:GetAuthorizationToken"
        for statement in statements(stack)
    )


@control(
    "IAM.21 no wildcard for what a service can do",
    ("ExecutionPolicy/Properties/PolicyDocument/Statement/1/Action", "ecr:*"),
    ("ExecutionPolicy/Properties/PolicyDocument/Statement/2/Action/0", "logs:Create*"),
)
def _(stack: Resources) -> object:
    return not [action for statement in statements(stack) for action in as_list(statement["Action"]) if "*" in action]


@control(
    "IAM: roles are for ECS's tasks of this account and region, and have no other policies",
    ("TaskRole/Properties/AssumeRolePolicyDocument/Statement/0/Condition", GONE),
    ("ExecutionRole/Properties/AssumeRolePolicyDocument/Statement/0/Principal/Service", "ec2.amazonaws.com"),
    ("ExecutionRole/Properties/ManagedPolicyArns", ["arn:aws:iam::aws:policy/AdministratorAccess"]),
)
def _(stack: Resources) -> object:
    roles = of_type(stack, "AWS::IAM::Role").values()
    return all(
        role.keys() == {"AssumeRolePolicyDocument"}
        and [
            (each["Principal"], each.get("Condition", {}).keys())
            for each in role["AssumeRolePolicyDocument"]["Statement"]
        ]
        == [({"Service": "ecs-tasks.amazonaws.com"}, {"StringEquals", "ArnLike"})]
        for role in roles
    )


@control(
    "IAM: a task may mount and write through its access point, and nothing else",
    ("VolumePolicy/Properties/PolicyDocument/Statement/0/Condition", GONE),
    ("VolumePolicy/Properties/PolicyDocument/Statement/0/Action/2", "elasticfilesystem:ClientRootAccess"),
    ("VolumePolicy/Properties/PolicyDocument/Statement/0/Resource", "*"),
    ("VolumePolicy/Properties/RoleName", "ExecutionRole"),
    of=FILES,
)
def _(stack: Resources) -> object:
    policies = [each for each in of_type(stack, "AWS::IAM::RolePolicy").values() if each["RoleName"] == "TaskRole"]
    file_system = stack["AccessPoint"]["Properties"]["FileSystemId"]
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]] == [
        {
            "Effect": "Allow",
            "Action": ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"],
            "Resource": f"arn:aws:elasticfilesystem:eu-central-1:111122223333:file-system/{file_system}",
            "Condition": {"StringEquals": {"elasticfilesystem:AccessPointArn": "AccessPoint.Arn"}},
        }
    ]


@control(
    "IAM: a task may do with the table what the store does, and nothing else",
    ("TablePolicy/Properties/PolicyDocument/Statement/0/Action/8", "dynamodb:DeleteTable"),
    ("TablePolicy/Properties/PolicyDocument/Statement/0/Action/3", GONE),
    of=("dynamodb",),
)
def _(stack: Resources) -> object:
    (policy,) = [each for each in of_type(stack, "AWS::IAM::RolePolicy").values() if each["RoleName"] == "TaskRole"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    # The last one tells whether expired records go away; test_permissions.py sees what is really asked for.
    return (
        set(statement["Action"]) == {*TABLE_ACTIONS, "dynamodb:DescribeTimeToLive"}
        and statement["Resource"] == "Table.Arn"
    )


@control(
    "IAM: every secret that a task is given may be read, and no other",
    ("ExecutionPolicy/Properties/PolicyDocument/Statement/3/Resource/2", GONE),
    ("ExecutionPolicy/Properties/PolicyDocument/Statement/3/Resource/0", "AnotherSecret"),
)
def _(stack: Resources) -> object:
    (container,) = stack["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    given = {secret["ValueFrom"].removesuffix("::AWSPREVIOUS:") for secret in container["Secrets"]}
    (readable,) = [
        statement["Resource"]
        for statement in statements(stack)
        if statement["Action"] == "secretsmanager:GetSecretValue"
    ]
    return set(readable) == given


@control(
    "IAM: the file with settings may be read",
    ("ExecutionPolicy/Properties/PolicyDocument/Statement/4/Resource", "arn:aws:s3:::settings/*"),
    ("ExecutionPolicy/Properties/PolicyDocument/Statement/5", GONE),
    of=("everything",),
)
def _(stack: Resources) -> object:
    may = {
        statement["Action"]: statement["Resource"]
        for statement in statements(stack)
        if "s3:" in str(statement["Action"])
    }
    return may == {"s3:GetObject": EVERYTHING["SettingsFile"], "s3:GetBucketLocation": "arn:aws:s3:::settings"}


# Network.


@control(
    "EC2.18, EC2.19, CIS AWS 5.2 the internet reaches 443 and 80 of the load balancer",
    ("LoadBalancerSecurityGroup/Properties/SecurityGroupIngress/0/FromPort", 22),
    ("TaskSecurityGroup/Properties/SecurityGroupIngress/0/CidrIp", ANYWHERE),
    ("MountTargetSecurityGroup/Properties/SecurityGroupIngress/0/CidrIp", "10.0.0.0/8"),
    of=FILES,
)
def _(stack: Resources) -> object:
    groups = of_type(stack, "AWS::EC2::SecurityGroup").items()
    ways_in = [(name, rule) for name, group in groups for rule in group["SecurityGroupIngress"]]
    by_address = [(name, rule["FromPort"], rule["ToPort"]) for name, rule in ways_in if "CidrIp" in rule]
    by_group = {
        (name, rule["SourceSecurityGroupId"], rule["FromPort"]) for name, rule in ways_in if "CidrIp" not in rule
    }
    return by_address == [
        ("LoadBalancerSecurityGroup", 443, 443),
        ("LoadBalancerSecurityGroup", 80, 80),
    ] and by_group == {
        ("TaskSecurityGroup", "LoadBalancerSecurityGroup", 8000),
        ("MountTargetSecurityGroup", "TaskSecurityGroup", 2049),
    }


@control(
    "EC2: nothing is let out but what is needed",
    ("TaskSecurityGroup/Properties/SecurityGroupEgress/0/IpProtocol", "-1"),
    ("TaskSecurityGroup/Properties/SecurityGroupEgress", GONE),
    ("LoadBalancerSecurityGroup/Properties/SecurityGroupEgress", GONE),
    ("TasksToMountTargets/Properties/FromPort", 0),
    of=FILES,
)
def _(stack: Resources) -> object:
    groups = of_type(stack, "AWS::EC2::SecurityGroup")
    if not all("SecurityGroupEgress" in group for group in groups.values()):
        return False
    ways_out = {
        (name, int(rule["FromPort"]), int(rule["ToPort"]), rule["CidrIp"], rule["IpProtocol"])
        for name, group in groups.items()
        for rule in group["SecurityGroupEgress"]
        if rule["CidrIp"] != "127.0.0.1/32"
    }
    between = {
        (rule["GroupId"], rule["FromPort"], rule["ToPort"], rule["DestinationSecurityGroupId"], rule["IpProtocol"])
        for rule in of_type(stack, "AWS::EC2::SecurityGroupEgress").values()
    }
    return ways_out == {
        ("TaskSecurityGroup", 443, 443, ANYWHERE, "tcp"),
        ("TaskSecurityGroup", 8563, 8563, ANYWHERE, "tcp"),
    } and between == {
        ("LoadBalancerSecurityGroup", 8000, 8000, "TaskSecurityGroup", "tcp"),
        ("TaskSecurityGroup", 2049, 2049, "MountTargetSecurityGroup", "tcp"),
    }


# The service.


@control("ECS.10 the newest platform", ("Service/Properties/PlatformVersion", "1.3.0"))
def _(stack: Resources) -> object:
    return stack["Service"]["Properties"]["PlatformVersion"] == "LATEST"


@control("ECS.12 Container Insights", ("Cluster/Properties/ClusterSettings/0/Value", "disabled"))
def _(stack: Resources) -> object:
    return {"Name": "containerInsights", "Value": "enabled"} in stack["Cluster"]["Properties"]["ClusterSettings"]


@control("ECS Exec, which needs a writable root, is off", ("Service/Properties/EnableExecuteCommand", True))
def _(stack: Resources) -> object:
    return stack["Service"]["Properties"]["EnableExecuteCommand"] is False


@control(
    "ECS: one task that is never interrupted, the others on Spot",
    ("Service/Properties/CapacityProviderStrategy/0/Base", "0"),
    ("Service/Properties/CapacityProviderStrategy/1", GONE),
    ("Service/Properties/LaunchType", "FARGATE"),
    ("CapacityProviders/Properties/CapacityProviders", ["FARGATE"]),
)
def _(stack: Resources) -> object:
    service = stack["Service"]["Properties"]
    strategy = {
        each["CapacityProvider"]: (str(each.get("Base", 0)), each["Weight"])
        for each in service["CapacityProviderStrategy"]
    }
    offered = set(stack["CapacityProviders"]["Properties"]["CapacityProviders"])
    return (
        strategy == {"FARGATE": ("1", 0), "FARGATE_SPOT": ("0", 1)}
        and "LaunchType" not in service
        and offered >= {*strategy}
    )


@control(
    "ECS: a deployment keeps all tasks that serve, and goes back by itself",
    ("Service/Properties/DeploymentConfiguration/MinimumHealthyPercent", 50),
    ("Service/Properties/DeploymentConfiguration/MaximumPercent", 100),
    ("Service/Properties/DeploymentConfiguration/DeploymentCircuitBreaker/Rollback", False),
    ("Service/Properties/DeploymentConfiguration/DeploymentCircuitBreaker", GONE),
)
def _(stack: Resources) -> object:
    return bool(
        stack["Service"]["Properties"]["DeploymentConfiguration"]
        == {
            "MinimumHealthyPercent": 100,
            "MaximumPercent": 200,
            "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
        }
    )


@control("ECS gives a new task longer than a start takes", ("Service/Properties/HealthCheckGracePeriodSeconds", 60))
def _(stack: Resources) -> object:
    (container,) = stack["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    grace: int = stack["Service"]["Properties"]["HealthCheckGracePeriodSeconds"]
    return grace >= container["HealthCheck"]["StartPeriod"]


@control(
    "more tasks when there is more to do, never fewer than wanted",
    ("ScalableTarget/Properties/MinCapacity", "0"),
    ("ScalableTarget/Properties/MaxCapacity", "1"),
    ("ScalingPolicy/Properties/ScalingTargetId", "Another"),
)
def _(stack: Resources) -> object:
    target = stack["ScalableTarget"]["Properties"]
    wanted = int(stack["Service"]["Properties"]["DesiredCount"])
    return (
        wanted == int(target["MinCapacity"]) <= int(target["MaxCapacity"])
        and target["ResourceId"] == "service/Cluster/Service.Name"
        and stack["ScalingPolicy"]["Properties"]["ScalingTargetId"] == "ScalableTarget"
    )


# The load balancer.


@control(
    "ELB.1 http is sent on to https",
    ("HttpListener/Properties/DefaultActions/0/Type", "forward"),
    ("HttpListener/Properties/DefaultActions/0/RedirectConfig/Protocol", "HTTP"),
)
def _(stack: Resources) -> object:
    (action,) = stack["HttpListener"]["Properties"]["DefaultActions"]
    return action["Type"] == "redirect" and action["RedirectConfig"]["Protocol"] == "HTTPS"


@control("ELB.4 headers that are none are dropped", ("LoadBalancer/Properties/LoadBalancerAttributes/1/Value", "false"))
def _(stack: Resources) -> object:
    return attributes(stack, "LoadBalancer")["routing.http.drop_invalid_header_fields.enabled"] == "true"


@control(
    "ELB.5 an access log where a bucket is given",
    ("LoadBalancer/Properties/LoadBalancerAttributes/4/Value", "false"),
    ("LoadBalancer/Properties/LoadBalancerAttributes/5", GONE),
    of=("everything",),
)
def _(stack: Resources) -> object:
    found = attributes(stack, "LoadBalancer")
    return (
        found["access_logs.s3.enabled"] == "true"
        and found.get("access_logs.s3.bucket") == EVERYTHING["AccessLogBucket"]
    )


@control("ELB.6 protected from deletion", ("LoadBalancer/Properties/LoadBalancerAttributes/3/Value", "false"))
def _(stack: Resources) -> object:
    return attributes(stack, "LoadBalancer")["deletion_protection.enabled"] == "true"


@control(
    "ELB.12 requests that two servers read differently are refused",
    ("LoadBalancer/Properties/LoadBalancerAttributes/2/Value", "monitor"),
)
def _(stack: Resources) -> object:
    return attributes(stack, "LoadBalancer")["routing.http.desync_mitigation_mode"] in {"defensive", "strictest"}


@control("ELB.13 two availability zones", ("LoadBalancer/Properties/Subnets", ["subnet-0000000000000000a"] * 2))
def _(stack: Resources) -> object:
    return len(set(stack["LoadBalancer"]["Properties"]["Subnets"])) == 2


@control(
    "ELB.17 TLS 1.2 and 1.3, by a policy that is recommended",
    ("HttpsListener/Properties/SslPolicy", "ELBSecurityPolicy-2016-08"),
    ("HttpsListener/Properties/SslPolicy", GONE),
    ("HttpsListener/Properties/Protocol", "HTTP"),
)
def _(stack: Resources) -> object:
    listener = stack["HttpsListener"]["Properties"]
    return listener["Protocol"] == "HTTPS" and listener.get("SslPolicy") == "ELBSecurityPolicy-TLS13-1-2-2021-06"


@control(
    "ELB: a silent tool and an event stream are not cut, and the load balancer is the first to close a connection",
    ("LoadBalancer/Properties/LoadBalancerAttributes/0/Value", "60"),
    ("LoadBalancer/Properties/LoadBalancerAttributes/0/Value", "600"),
    ("TaskDefinition/Properties/ContainerDefinitions/0/Environment/3/Value", ""),
)
def _(stack: Resources) -> object:
    (container,) = stack["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    variables = {each["Name"]: each["Value"] for each in container["Environment"]}
    keep_alive = re.fullmatch(r"--keep-alive (\d+)", variables["GUNICORN_CMD_ARGS"])
    idle = int(attributes(stack, "LoadBalancer")["idle_timeout.timeout_seconds"])
    return keep_alive is not None and 300 <= idle < int(keep_alive[1])


@control(
    "ELB asks who can store a sign-in, and waits for an answer that takes long",
    ("TargetGroup/Properties/HealthCheckPath", "/livez"),
    ("TargetGroup/Properties/HealthCheckTimeoutSeconds", 3),
    ("TargetGroup/Properties/Matcher/HttpCode", "200-599"),
    ("TargetGroup/Properties/UnhealthyThresholdCount", 2),
)
def _(stack: Resources) -> object:
    group = stack["TargetGroup"]["Properties"]
    return (
        group["HealthCheckPath"] == "/readyz"
        and group["Matcher"] == {"HttpCode": "200"}
        and group["HealthCheckTimeoutSeconds"] > health.DEADLINE
        and group["HealthCheckIntervalSeconds"] * group["UnhealthyThresholdCount"] >= 60
    )


@control(
    "ELB sends nothing to a task that is to end, and what it sent is answered before it ends",
    ("TargetGroup/Properties/TargetGroupAttributes/0/Value", "300"),
    ("TargetGroup/Properties/TargetGroupAttributes/0/Value", "0"),
    ("TaskDefinition/Properties/ContainerDefinitions/0/Environment/4/Value", "80s"),
)
def _(stack: Resources) -> object:
    delay = int(attributes(stack, "TargetGroup")["deregistration_delay.timeout_seconds"])
    (container,) = stack["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    drain = {each["Name"]: each["Value"] for each in container["Environment"]}["HOLDFAST_DRAIN"]
    graceful: int = gunicorn_settings(load_settings(Environment({"HOLDFAST_DRAIN": drain}))[0])["graceful_timeout"]
    return delay > 0 and delay + graceful < container["StopTimeout"]


@control("ELB: any task answers any request", ("TargetGroup/Properties/TargetGroupAttributes/1/Value", "true"))
def _(stack: Resources) -> object:
    return attributes(stack, "TargetGroup")["stickiness.enabled"] == "false"


@control(
    "the host leads to the load balancer",
    ("Record/Properties/AliasTarget/DNSName", "elsewhere.example.com"),
    ("Record/Properties/Name", "other.example.com"),
    of=("efs", "dynamodb", "everything", "restored"),
)
def _(stack: Resources) -> object:
    record = stack["Record"]["Properties"]
    return record["Name"] == "mcp.example.com" and record["AliasTarget"]["DNSName"] == "LoadBalancer.DNSName"


# What somebody should look at.


@control("CloudWatch.16 a year of log", ("LogGroup/Properties/RetentionInDays", "30"))
def _(stack: Resources) -> object:
    return int(stack["LogGroup"]["Properties"]["RetentionInDays"]) >= 365


@control(
    "CloudWatch.15 alarms tell somebody",
    ("ServerErrors/Properties/AlarmActions", []),
    ("BurstCreditsLow/Properties/AlarmActions", GONE),
    of=("everything",),
)
def _(stack: Resources) -> object:
    alarms = of_type(stack, "AWS::CloudWatch::Alarm").values()
    return all(alarm.get("AlarmActions") == alarm.get("OKActions") == [EVERYTHING["AlarmTopic"]] for alarm in alarms)


@control(
    "an alarm for each way in which it fails",
    ("ServerErrors", GONE),
    ("NoHealthyTask/Properties/TreatMissingData", "notBreaching"),
    ("UnhealthyTasks/Properties/Dimensions/1/Value", "Another"),
)
def _(stack: Resources) -> object:
    alarms = {alarm["MetricName"]: alarm for alarm in of_type(stack, "AWS::CloudWatch::Alarm").values()}
    on_files, in_table = "AccessPoint" in stack, "Table" in stack
    bursts = on_files and stack.get("FileSystem", {"Properties": {}})["Properties"].get("ThroughputMode") == "bursting"
    expected = (
        ALARMS - ({"PercentIOLimit"} if not on_files else set()) - ({"ThrottledRequests"} if not in_table else set())
    )
    expected -= set() if bursts else {"BurstCreditBalance"}
    values = {each["Value"] for alarm in alarms.values() for each in alarm["Dimensions"]}
    known = {"LoadBalancer.LoadBalancerFullName", "TargetGroup.TargetGroupFullName", "FileSystem", "Table"}
    return (
        alarms.keys() == expected
        and values <= known | {"fs-0123456789abcdef0"}
        and alarms["HealthyHostCount"]["TreatMissingData"] == "breaching"
    )


@pytest.mark.parametrize("control", CONTROLS.all, ids=lambda control: control.name)
def test_is_kept(control: Control) -> None:
    for variant in control.variants:
        assert control.check(resources(variant)), variant


@pytest.mark.parametrize("control", CONTROLS.all, ids=lambda control: control.name)
def test_is_seen_to_be_broken(control: Control) -> None:
    assert control.breaks
    for change in control.breaks:
        assert not control.check(change.applied(resources(control.variants[0]))), change


def test_cfn_lint_finds_nothing() -> None:
    program = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run(
        [program, "--include-checks", "I", "--format", "json", "--", STACK.path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout) == []


def test_nothing_of_the_other_storage_is_made() -> None:
    assert not of_type(resources("dynamodb"), "AWS::EFS::FileSystem", "AWS::EFS::AccessPoint", "AWS::EFS::MountTarget")
    assert not of_type(resources("efs"), "AWS::DynamoDB::Table")
    assert not of_type(resources("restored"), "AWS::EFS::FileSystem")


def test_outputs_tell_the_url_of_mcp() -> None:
    assert STACK.outputs(**VARIANTS["efs"])["McpUrl"]["Value"] == "https://mcp.example.com/mcp"


@pytest.mark.parametrize(
    ("parameter", "wrong"),
    [
        ("Host", "https://mcp.example.com"),
        ("Host", "MCP.example.com"),
        ("Tag", "latest"),
        ("LoadBalancerNetworks", "*"),
        ("HostedZone", "example.com"),
        ("Certificate", "my-certificate"),
        ("PayloadSecret", "hunter2"),
        ("PayloadSecret", EVERYTHING["PayloadSecret"] + ":password::"),
        ("SettingsFile", "s3://settings/holdfast.env"),
        ("ExistingFileSystem", "holdfast"),
        ("Directory", "/"),
        ("AlarmTopic", "operations"),
    ],
)
def test_a_malformed_parameter_is_refused_before_anything_is_made(parameter: str, wrong: str) -> None:
    pattern = STACK.parameters[parameter]["AllowedPattern"]
    assert not re.fullmatch(pattern, wrong, re.ASCII)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_given_here_is_allowed(variant: str) -> None:
    given = {name: value for name, value in VARIANTS[variant].items() if "AllowedPattern" in STACK.parameters[name]}
    wrong = [name for name, value in given.items() if not re.fullmatch(STACK.parameters[name]["AllowedPattern"], value)]
    assert wrong == []
