"""What fargate/ holds, with values that fit together."""

from copy import deepcopy
from pathlib import Path
from typing import Any

from harness.cloudformation import ACCOUNT, REGION, Template

FARGATE = Path(__file__).parents[2] / "fargate"
STACK = Template(FARGATE / "stack.yaml")

SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:"
PARAMETERS = {
    "Host": "mcp.example.com",
    "HostedZone": "Z0123456789ABCDEFGHIJ",
    "Vpc": "vpc-0123456789abcdef0",
    "LoadBalancerSubnetA": "subnet-0000000000000000a",
    "LoadBalancerSubnetB": "subnet-0000000000000000b",
    "LoadBalancerNetworks": "10.0.0.0/24,10.0.1.0/24",
    "TaskSubnetA": "subnet-0000000000000000c",
    "TaskSubnetB": "subnet-0000000000000000d",
}
EVERYTHING = {
    "SettingsFile": "arn:aws:s3:::settings/holdfast.env",
    "PayloadSecret": f"{SECRET}exasol-AbCdEf",
    "ProviderSecret": f"{SECRET}entra-AbCdEf",
    "PreviousKeys": "both",
    "ThroughputMode": "bursting",
    "AccessLogBucket": "logs-of-load-balancers",
    "AlarmTopic": f"arn:aws:sns:{REGION}:{ACCOUNT}:operations",
}
VARIANTS: dict[str, dict[str, str]] = {
    "efs": PARAMETERS,
    "dynamodb": {**PARAMETERS, "Storage": "dynamodb"},
    "everything": {**PARAMETERS, **EVERYTHING},
    "restored": {
        **PARAMETERS,
        "ExistingFileSystem": "fs-0123456789abcdef0",
        "Directory": "/aws-backup-restore_x/holdfast",
    },
    "own certificate": {
        **{name: value for name, value in PARAMETERS.items() if name != "HostedZone"},
        "Certificate": f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1",
    },
}

PLACEHOLDERS = {
    "IMAGE": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/holdfast:0.1.0",
    "REGION": REGION,
    "BASE_URL": "https://mcp.example.com",
    "PROXY_ADDRESSES": "10.0.0.0/24,10.0.1.0/24",
    "EXECUTION_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/holdfast-execution",
    "TASK_ROLE_ARN": f"arn:aws:iam::{ACCOUNT}:role/holdfast-task",
    "FILE_SYSTEM_ID": "fs-0123456789abcdef0",
    "ACCESS_POINT_ID": "fsap-0123456789abcdef0",
    "PIN_SECRET_ARN": f"{SECRET}holdfast/pin-AbCdEf",
    "SIGNING_KEY_SECRET_ARN": f"{SECRET}holdfast/signing-key-AbCdEf",
    "STORAGE_KEY_SECRET_ARN": f"{SECRET}holdfast/storage-key-AbCdEf",
}

GONE = object()
"""What a broken document lacks."""


def broken(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at `path`, whose names and indices are separated by slashes; GONE takes it away."""
    copy = deepcopy(document)
    *way, last = (int(part) if part.isdecimal() else part for part in path.split("/"))
    parent: Any = copy
    for part in way:
        parent = parent[part]
    if value is GONE:
        del parent[last]
    elif isinstance(parent, list) and last == len(parent):
        parent.append(value)
    else:
        parent[last] = value
    return copy


def as_task_definition(properties: dict[str, Any]) -> dict[str, Any]:
    """The task definition of a stack as ECS's own interface calls its parts."""
    unlike = {"EFSVolumeConfiguration": "efsVolumeConfiguration", "FilesystemId": "fileSystemId", "IAM": "iam"}

    def renamed(part: Any) -> Any:
        if isinstance(part, list):
            return [renamed(item) for item in part]
        if isinstance(part, dict):
            return {unlike.get(name, name[0].lower() + name[1:]): renamed(value) for name, value in part.items()}
        return part

    definition: dict[str, Any] = renamed(properties)
    return definition
