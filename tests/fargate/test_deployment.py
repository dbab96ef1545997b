"""The stack is really made, by moto, and the server really runs on the table that it made.

moto is a mild judge: it takes nearly everything, passes over secrets, policies and capacity providers, and starts no
task. What AWS refuses is in test_create_calls.py, as far as its own models tell.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from harness.engines import DynamoDBServer
from harness.engines.dynamodb import ACCESS_KEY, SECRET
from harness.engines.process import KEYS
from harness.fargate import PARAMETERS, STACK, VARIANTS
from harness.oauth import OAuthClient
from harness.server import Server
from harness.waiting import HANGS_AFTER
from mcp_holdfast.storage.backends import Engine, open_engine

Outputs = dict[str, str]


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamoDBServer]:
    aws = DynamoDBServer(tmp_path_factory.mktemp("aws")).start()
    yield aws
    aws.kill()


@pytest.fixture(scope="module")
def on_files(aws: DynamoDBServer) -> Outputs:
    return outputs_of_new_stack(aws, "efs")


@pytest.fixture(scope="module")
def in_dynamodb(aws: DynamoDBServer) -> Outputs:
    return outputs_of_new_stack(aws, "dynamodb")


def outputs_of_new_stack(aws: DynamoDBServer, storage: str) -> Outputs:
    ec2, certificates = aws.client("ec2"), aws.client("acm")
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]]
    zone = aws.client("route53").create_hosted_zone(Name="example.com", CallerReference=storage)
    values = {
        **PARAMETERS,
        "Vpc": ec2.describe_vpcs()["Vpcs"][0]["VpcId"],
        "HostedZone": zone["HostedZone"]["Id"].rpartition("/")[2],
        "Certificate": certificates.request_certificate(DomainName="mcp.example.com")["CertificateArn"],
        **{f"{who}Subnet{which}": subnets["AB".index(which)] for who in ("LoadBalancer", "Task") for which in "AB"},
        "Storage": storage,
    }
    # moto takes an empty parameter for one that is not there.
    template = STACK.path.read_text().replace('""', '"-"')
    stacks = aws.client("cloudformation")
    stacks.create_stack(
        StackName=f"holdfast-{storage}",
        TemplateBody=template,
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    (stack,) = stacks.describe_stacks(StackName=f"holdfast-{storage}")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def assert_served(aws: DynamoDBServer, outputs: Outputs) -> None:
    assert outputs["McpUrl"] == "https://mcp.example.com/mcp"
    cluster, service = outputs["ClusterName"], outputs["ServiceName"]
    (found,) = aws.client("ecs").describe_services(cluster=cluster, services=[service])["services"]
    assert found["taskDefinition"] == outputs["TaskDefinitionArn"]
    balancing = aws.client("elbv2")
    balancers = {
        each["DNSName"]: each["LoadBalancerArn"] for each in balancing.describe_load_balancers()["LoadBalancers"]
    }
    arn = balancers[outputs["LoadBalancerHost"]]
    listeners = balancing.describe_listeners(LoadBalancerArn=arn)["Listeners"]
    assert {(each["Port"], each["DefaultActions"][0]["Type"]) for each in listeners} == {
        (80, "redirect"),
        (443, "forward"),
    }


def test_outputs_name_what_is_there(aws: DynamoDBServer, on_files: Outputs, in_dynamodb: Outputs) -> None:
    assert_served(aws, on_files)
    assert_served(aws, in_dynamodb)


def test_both_availability_zones_see_one_directory(aws: DynamoDBServer, on_files: Outputs) -> None:
    volumes = aws.client("efs")
    (point,) = volumes.describe_access_points(FileSystemId=on_files["FileSystemId"])["AccessPoints"]
    assert point["RootDirectory"]["Path"] == "/holdfast"
    targets = volumes.describe_mount_targets(FileSystemId=on_files["FileSystemId"])["MountTargets"]
    assert len({target["SubnetId"] for target in targets}) == 2


def test_a_task_asks_the_table_for_what_its_role_allows_and_for_nothing_else(
    aws: DynamoDBServer, in_dynamodb: Outputs, tmp_path: Path
) -> None:
    described = aws.client("ecs").describe_task_definition(taskDefinition=in_dynamodb["TaskDefinitionArn"])
    (container,) = described["taskDefinition"]["containerDefinitions"]
    variables = {each["name"]: each["value"] for each in container["environment"]}
    url = variables["HOLDFAST_STORAGE_URL"].replace("//", f"//{ACCESS_KEY}:{quote(SECRET, safe='')}@", 1)
    url += f"&endpoint_url={quote(aws.endpoint, safe='')}"
    resources = STACK.resources(**VARIANTS["dynamodb"])
    # moto leaves this to who made the table.
    expiry = resources["Table"]["Properties"]["TimeToLiveSpecification"]
    aws.client().update_time_to_live(TableName=in_dynamodb["TableName"], TimeToLiveSpecification=expiry)
    httpx.post(f"{aws.endpoint}/moto-api/recorder/start-recording").raise_for_status()
    server = Server(tmp_path / "nothing", tmp_path / "server.log", HOLDFAST_STORAGE_URL=url, **KEYS).start()
    try:
        with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
            client = OAuthClient(http)
            client.register().raise_for_status()
            client.sign_in()
            assert client.refresh(client.tokens["refresh_token"]).status_code == 200
    finally:
        server.stop()
    asyncio.run(use_everything(open_engine(url)))
    recorded = httpx.get(f"{aws.endpoint}/moto-api/recorder/download-recording").text.splitlines()
    headers = [{name.lower(): value for name, value in json.loads(line)["headers"].items()} for line in recorded]
    asked = {each["x-amz-target"].rpartition(".")[2] for each in headers if "x-amz-target" in each}
    (statement,) = resources["TablePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert {f"dynamodb:{action}" for action in asked} == set(statement["Action"])


async def use_everything(store: Engine) -> None:
    """What commands do beside the server."""
    await store.put("key", {"a": 1}, collection="one", ttl=60)
    entry = await store.read("key", collection="one")
    assert entry is not None
    assert await store.replace("key", collection="one", expected=entry, value={"a": 2})
    assert await store.count("one", at_most=5) == 1
    assert "one" in await store.collection_names()
    assert await store.warnings() == []
    await store.close()
