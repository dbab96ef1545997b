"""What the stack asks of each service is what the service takes, by the service's own model in botocore.

CloudFormation hands most properties on as they are called in the service's own interface; where it does not, the calls
below say how. Each property must be in a call, so that nothing is left unchecked.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session  # type: ignore[import-untyped]
import pytest
from botocore.validate import ParamValidator  # type: ignore[import-untyped]

from harness.fargate import GONE, STACK, VARIANTS, as_task_definition, broken

Values = dict[str, Any]
Calls = Iterator[tuple[str, Values]]
Translation = Callable[[Values], Calls]

SESSION = botocore.session.get_session()
NAME = "holdfast"
TRANSLATIONS: dict[str, Translation] = {}


def calls_of(resource_type: str) -> Callable[[Translation], Translation]:
    """The calls that a resource comes to. What is taken out of the properties has been used; the rest must be empty."""

    def register(translation: Translation) -> Translation:
        TRANSLATIONS[resource_type] = translation
        return translation

    return register


def taken(properties: Values, *names: str) -> Values:
    return {name: properties.pop(name) for name in names if name in properties}


@calls_of("AWS::EFS::FileSystem")
def _(properties: Values) -> Calls:
    file_system = {"FileSystemId": "fs-0123456789abcdef0"}
    yield "efs:PutLifecycleConfiguration", {**file_system, **taken(properties, "LifecyclePolicies")}
    yield "efs:PutBackupPolicy", {**file_system, **taken(properties, "BackupPolicy")}
    yield "efs:PutFileSystemPolicy", {**file_system, "Policy": json.dumps(properties.pop("FileSystemPolicy"))}
    tags = properties.pop("FileSystemTags")
    basics = taken(properties, "Encrypted", "PerformanceMode", "ThroughputMode")
    yield "efs:CreateFileSystem", {"CreationToken": NAME, "Tags": tags, **basics}


@calls_of("AWS::EFS::AccessPoint")
def _(properties: Values) -> Calls:
    yield (
        "efs:CreateAccessPoint",
        {"ClientToken": NAME, **taken(properties, "FileSystemId", "PosixUser", "RootDirectory")},
    )


@calls_of("AWS::EFS::MountTarget")
def _(properties: Values) -> Calls:
    yield "efs:CreateMountTarget", taken(properties, "FileSystemId", "SubnetId", "SecurityGroups")


@calls_of("AWS::DynamoDB::Table")
def _(properties: Values) -> Calls:
    table = {"TableName": NAME}
    yield "dynamodb:UpdateTimeToLive", {**table, **taken(properties, "TimeToLiveSpecification")}
    yield "dynamodb:UpdateContinuousBackups", {**table, **taken(properties, "PointInTimeRecoverySpecification")}
    names = ("BillingMode", "AttributeDefinitions", "KeySchema", "DeletionProtectionEnabled")
    yield "dynamodb:CreateTable", {**table, **taken(properties, *names)}


@calls_of("AWS::SecretsManager::Secret")
def _(properties: Values) -> Calls:
    yield "secretsmanager:GetRandomPassword", properties.pop("GenerateSecretString")
    yield "secretsmanager:CreateSecret", {"Name": NAME, **taken(properties, "Description")}


def permission(rule: Values) -> Values:
    description = {"Description": rule.pop("Description")}
    groups = [rule.pop(name) for name in ("SourceSecurityGroupId", "DestinationSecurityGroupId") if name in rule]
    ranges = [{"CidrIp": rule.pop("CidrIp"), **description}] if "CidrIp" in rule else []
    found = taken(rule, "IpProtocol", "FromPort", "ToPort")
    assert rule == {}
    pairs = [{"GroupId": group, **description} for group in groups]
    return {**found, "IpRanges": ranges, "UserIdGroupPairs": pairs}


@calls_of("AWS::EC2::SecurityGroup")
def _(properties: Values) -> Calls:
    for direction in ("Ingress", "Egress"):
        rules = [permission(rule) for rule in properties.pop(f"SecurityGroup{direction}")]
        yield f"ec2:AuthorizeSecurityGroup{direction}", {"GroupId": NAME, "IpPermissions": rules}
    description = {"Description": properties.pop("GroupDescription")}
    yield "ec2:CreateSecurityGroup", {"GroupName": NAME, **description, **taken(properties, "VpcId")}


@calls_of("AWS::EC2::SecurityGroupEgress")
def _(properties: Values) -> Calls:
    group = taken(properties, "GroupId")
    rule = {name: properties.pop(name) for name in list(properties)}
    yield "ec2:AuthorizeSecurityGroupEgress", {**group, "IpPermissions": [permission(rule)]}


@calls_of("AWS::IAM::Role")
def _(properties: Values) -> Calls:
    document = json.dumps(properties.pop("AssumeRolePolicyDocument"))
    yield "iam:CreateRole", {"RoleName": NAME, "AssumeRolePolicyDocument": document}


@calls_of("AWS::IAM::RolePolicy")
def _(properties: Values) -> Calls:
    document = json.dumps(properties.pop("PolicyDocument"))
    yield "iam:PutRolePolicy", {**taken(properties, "RoleName", "PolicyName"), "PolicyDocument": document}


@calls_of("AWS::Logs::LogGroup")
def _(properties: Values) -> Calls:
    yield "logs:CreateLogGroup", {"logGroupName": NAME}
    yield "logs:PutRetentionPolicy", {"logGroupName": NAME, "retentionInDays": properties.pop("RetentionInDays")}


@calls_of("AWS::ECS::TaskDefinition")
def _(properties: Values) -> Calls:
    yield "ecs:RegisterTaskDefinition", as_task_definition({name: properties.pop(name) for name in list(properties)})


@calls_of("AWS::ECS::Cluster")
def _(properties: Values) -> Calls:
    settings = as_task_definition({"Settings": properties.pop("ClusterSettings")})
    yield "ecs:CreateCluster", {"clusterName": NAME, **settings}


@calls_of("AWS::ECS::ClusterCapacityProviderAssociations")
def _(properties: Values) -> Calls:
    names = ("Cluster", "CapacityProviders", "DefaultCapacityProviderStrategy")
    yield "ecs:PutClusterCapacityProviders", as_task_definition(taken(properties, *names))


@calls_of("AWS::ECS::Service")
def _(properties: Values) -> Calls:
    service = as_task_definition({name: properties.pop(name) for name in list(properties)})
    yield "ecs:CreateService", {"serviceName": NAME, **service}


@calls_of("AWS::CertificateManager::Certificate")
def _(properties: Values) -> Calls:
    # CloudFormation itself puts the record for the validation into this zone.
    (validation,) = properties.pop("DomainValidationOptions")
    assert validation == {"DomainName": properties["DomainName"], "HostedZoneId": "Z0123456789ABCDEFGHIJ"}
    yield "acm:RequestCertificate", taken(properties, "DomainName", "ValidationMethod")


@calls_of("AWS::ElasticLoadBalancingV2::LoadBalancer")
def _(properties: Values) -> Calls:
    attributes = {"Attributes": properties.pop("LoadBalancerAttributes")}
    yield "elbv2:ModifyLoadBalancerAttributes", {"LoadBalancerArn": NAME, **attributes}
    names = ("Type", "Scheme", "IpAddressType", "Subnets", "SecurityGroups")
    yield "elbv2:CreateLoadBalancer", {"Name": NAME, **taken(properties, *names)}


@calls_of("AWS::ElasticLoadBalancingV2::TargetGroup")
def _(properties: Values) -> Calls:
    attributes = {"Attributes": properties.pop("TargetGroupAttributes")}
    yield "elbv2:ModifyTargetGroupAttributes", {"TargetGroupArn": NAME, **attributes}
    yield "elbv2:CreateTargetGroup", {"Name": NAME, **{name: properties.pop(name) for name in list(properties)}}


@calls_of("AWS::ElasticLoadBalancingV2::Listener")
def _(properties: Values) -> Calls:
    yield "elbv2:CreateListener", {name: properties.pop(name) for name in list(properties)}


@calls_of("AWS::Route53::RecordSet")
def _(properties: Values) -> Calls:
    zone = taken(properties, "HostedZoneId")
    record = taken(properties, "Name", "Type", "AliasTarget")
    changes = [{"Action": "CREATE", "ResourceRecordSet": record}]
    yield "route53:ChangeResourceRecordSets", {**zone, "ChangeBatch": {"Changes": changes}}


@calls_of("AWS::ApplicationAutoScaling::ScalableTarget")
def _(properties: Values) -> Calls:
    yield "application-autoscaling:RegisterScalableTarget", {name: properties.pop(name) for name in list(properties)}


@calls_of("AWS::ApplicationAutoScaling::ScalingPolicy")
def _(properties: Values) -> Calls:
    assert properties.pop("ScalingTargetId") == "ScalableTarget"
    target = STACK.resources(**VARIANTS["efs"])["ScalableTarget"]["Properties"]
    place = taken(target, "ServiceNamespace", "ScalableDimension", "ResourceId")
    yield (
        "application-autoscaling:PutScalingPolicy",
        {**place, **{name: properties.pop(name) for name in list(properties)}},
    )


@calls_of("AWS::CloudWatch::Alarm")
def _(properties: Values) -> Calls:
    yield "cloudwatch:PutMetricAlarm", {"AlarmName": NAME, **{name: properties.pop(name) for name in list(properties)}}


@calls_of("AWS::CloudFormation::WaitConditionHandle")
def _(_: Values) -> Calls:
    yield from ()


def problems_of(resource: Values) -> list[str]:
    """What the services would refuse of a resource."""
    properties = broken(resource, "Properties", resource.get("Properties", {}))["Properties"]
    problems = []
    for call, parameters in TRANSLATIONS[resource["Type"]](properties):
        service, operation = call.split(":")
        shape = SESSION.get_service_model(service).operation_model(operation).input_shape
        given = _typed(parameters, shape)
        report = ParamValidator().validate(given, shape)
        problems += [report.generate_report()] if report.has_errors() else []
        problems += _outside_of_enumerations(given, shape)
    return [*problems, *(f"nobody takes {name}" for name in properties)]


def _typed(value: Any, shape: Any) -> Any:
    """Numbers and truth values as CloudFormation turns the strings of parameters into them."""
    match shape.type_name:
        case "structure" if isinstance(value, dict):
            return {
                name: _typed(each, shape.members[name]) if name in shape.members else each
                for name, each in value.items()
            }
        case "list" if isinstance(value, list):
            return [_typed(each, shape.member) for each in value]
        case "integer" | "long" if isinstance(value, str) and value.lstrip("-").isdecimal():
            return int(value)
        case _:
            return value


def _outside_of_enumerations(value: Any, shape: Any) -> Iterator[str]:
    if shape.type_name == "structure" and isinstance(value, dict):
        for name in value.keys() & shape.members.keys():
            yield from _outside_of_enumerations(value[name], shape.members[name])
    elif shape.type_name == "list" and isinstance(value, list):
        for each in value:
            yield from _outside_of_enumerations(each, shape.member)
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{value} is none of {shape.enum}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_service_takes_what_it_is_asked_for(variant: str) -> None:
    resources = STACK.resources(**VARIANTS[variant])
    problems = {name: problems_of(resource) for name, resource in resources.items()}
    assert {name: found for name, found in problems.items() if found} == {}


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("FileSystem", "Properties/ThroughputMode", "turbo"),
        ("FileSystem", "Properties/BackupPolicy", GONE),
        ("AccessPoint", "Properties/PosixUser/Uid", "holdfast"),
        ("AccessPoint", "Properties/RootDirectory/CreationInfo/Permissions", GONE),
        ("MountTargetA", "Properties/SubnetId", GONE),
        ("Pin", "Properties/GenerateSecretString/PasswordLength", 0),
        ("TaskSecurityGroup", "Properties/SecurityGroupIngress/0/FromPort", "http"),
        ("TaskDefinition", "Properties/ContainerDefinitions/0/HealthCheck/Interval", "often"),
        ("TaskDefinition", "Properties/RuntimePlatform/CpuArchitecture", "X86"),
        ("Service", "Properties/LoadBalancers/0/Port", 8000),
        ("Service", "Properties/PropagateTags", "SOMETIMES"),
        ("CapacityProviders", "Properties/DefaultCapacityProviderStrategy/0/CapacityProvider", GONE),
        ("TargetGroup", "Properties/HealthCheckIntervalSeconds", 1),
        ("HttpListener", "Properties/DefaultActions/0/Type", "forwards"),
        ("LoadBalancer", "Properties/Subnetz", []),
        ("ServerErrors", "Properties/ComparisonOperator", "Above"),
        ("ScalingPolicy", "Properties/TargetTrackingScalingPolicyConfiguration/TargetValue", GONE),
        ("Record", "Properties/AliasTarget/EvaluateTargetHealth", GONE),
        ("LogGroup", "Properties/RetentionInDays", "for ever"),
    ],
)
def test_what_a_service_would_refuse_is_noticed(name: str, path: str, value: Any) -> None:
    resource = broken(STACK.resources(**VARIANTS["efs"])[name], path, value)
    assert problems_of(resource)
