"""What is DynamoDB's own: AWS's URLs, credentials and permissions, its table, and answers that get lost.

moto judges all of it; what several clients do at once, DynamoDB Local judges, too.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from key_value.aio.errors import StoreConnectionError, StoreSetupError, ValueTooLargeError

from harness.engines import DynamoDBLocal, DynamoDBServer, EngineProcess
from harness.waiting import HANGS_AFTER
from mcp_holdfast.storage.backends import Engine, EngineProblem, open_engine
from mcp_holdfast.storage.backends.engine import QUARANTINE_COLLECTION
from mcp_holdfast.storage.deadlines import DEADLINE

ACTIONS = ("DescribeTable", "GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan")
THROTTLED = ("ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded")
REPLICAS = 6

Open = Callable[..., Engine]


class Between:
    """Stands between a client and DynamoDB: records what is asked, refuses some of it, loses or holds some answers."""

    def __init__(self, endpoint: str) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.refused: dict[str, str] = {}
        self.lost: list[str] = []
        self.held: dict[str, Barrier] = {}
        self.task_role: dict[str, str] = {}
        between = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, json.dumps(between.task_role).encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                action = self.headers["X-Amz-Target"].rpartition(".")[2]
                between.asked.append((action, json.loads(body)))
                between.headers.append(dict(self.headers))
                if action in between.refused:
                    error = {"__type": f"com.amazonaws.dynamodb.v20120810#{between.refused[action]}", "message": "No."}
                    self._answer(400, json.dumps(error).encode())
                    return
                answer = httpx.post(endpoint, content=body, headers=dict(self.headers), timeout=HANGS_AFTER)
                if action in between.lost:
                    between.lost.remove(action)
                    self.close_connection = True
                    return
                between.hold(action)
                self._answer(answer.status_code, answer.content)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Nobody reads it."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def hold(self, action: str) -> None:
        """Give nobody an answer before all of the first ones that asked have theirs."""
        barrier = self.held.get(action)
        if barrier is not None and [asked for asked, _ in self.asked].count(action) <= barrier.parties:
            barrier.wait(timeout=HANGS_AFTER)

    def url(self, credentials: str = "AKIA:secret@", table: str = "holdfast", **parameters: str) -> str:
        query = {"region": "eu-central-1", "endpoint_url": self.endpoint, **parameters}
        return f"dynamodb://{credentials}{table}?" + "&".join(
            f"{name}={quote(value, safe='')}" for name, value in query.items()
        )


@pytest.fixture
def moto(running_engines: Callable[[str], EngineProcess]) -> DynamoDBServer:
    engine = running_engines("dynamodb")
    assert isinstance(engine, DynamoDBServer)
    engine.empty()
    return engine


@pytest.fixture
def between(moto: DynamoDBServer) -> Iterator[Between]:
    between = Between(moto.endpoint)
    yield between
    between.server.shutdown()
    between.server.server_close()


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    async with AsyncExitStack() as everything:

        def opened(url: str, *, may_create: bool = True) -> Engine:
            engine = open_engine(url, may_create=may_create)
            everything.push_async_callback(engine.close)
            return engine

        yield opened


@pytest.fixture
def store(between: Between, opened: Open) -> Engine:
    return opened(between.url())


@pytest.fixture(autouse=True)
def nothing_of_aws_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REGION", "DEFAULT_REGION", "PROFILE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


async def problem_of(store: Engine) -> str:
    """Why a store cannot be used."""
    with pytest.raises(StoreSetupError) as error:
        await store.setup()
    assert isinstance(error.value.__cause__, EngineProblem)
    return str(error.value.__cause__)


@pytest.mark.parametrize(
    ("rest", "complaint"),
    [
        ("?region=eu-central-1", "does not name a table"),
        ("ab?region=eu-central-1", "3 to 255 letters"),
        ("a/table?region=eu-central-1", "does not name a table"),
        ("table:8000?region=eu-central-1", "does not name a table"),
        *((f"AKIA:hush{character}hush@table?region=eu-central-1", "written as %40") for character in "/?#@["),
        ("AKIAhush@table?region=eu-central-1", "an access key and its secret"),
        (":hush@table?region=eu-central-1", "an access key and its secret"),
        ("table", "the region is missing"),
        ("table?region=", "region="),
        ("table?region=Frankfurt am Main", "region=Frankfurt"),
        ("table?region=eu-central-1&endpoint_url=localhost:8000", "endpoint_url=localhost:8000"),
        ("table?region=eu-central-1&endpoint_url=http://[", "endpoint_url=http://["),
        ("table?region=eu-central-1&endpoint_url=http://host:port", "endpoint_url=http://host:port"),
        ("table?region=eu-central-1&endpoint_url=http://host:99999", "endpoint_url=http://host:99999"),
        ("table?region=eu-central-1&endpoint_url=http://user:hush@host", "written as %40"),
        ("table?region=eu-central-1&endpoint_url=http://user:hush%40host", "endpoint_url has no user"),
        ("table?region=eu-central-1&endpoint=http://localhost", "no parameter endpoint"),
        ("table?region=eu-central-1&session_token=hush", "the URL has none"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_asked(rest: str, complaint: str) -> None:
    with pytest.raises(EngineProblem) as error:
        open_engine(f"dynamodb://{rest}")
    assert complaint in str(error.value)
    assert "hush" not in str(error.value)


def test_a_profile_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(EngineProblem, match="nobody"):
        open_engine("dynamodb://table?region=eu-central-1")


async def test_credentials_are_percent_decoded(between: Between, opened: Open) -> None:
    await opened(between.url("AK%2BIA:sec%40ret%2F@", session_token="token/+=")).setup()
    assert "Credential=AK+IA/" in between.headers[0]["Authorization"]
    assert "/eu-central-1/dynamodb/" in between.headers[0]["Authorization"]
    assert between.headers[0]["X-Amz-Security-Token"] == "token/+="


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
async def test_without_credentials_and_region_the_environment_has_them(
    variable: str, between: Between, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(variable, "us-west-2")
    await opened(f"dynamodb://holdfast?endpoint_url={quote(between.endpoint, safe='')}").setup()
    assert "Credential=of-the-environment/" in between.headers[0]["Authorization"]
    assert "/us-west-2/dynamodb/" in between.headers[0]["Authorization"]


async def test_without_credentials_the_role_of_the_task_has_them(
    between: Between, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    expiration = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    between.task_role = {
        "AccessKeyId": "of-the-role",
        "SecretAccessKey": "secret",
        "Token": "its-token",
        "Expiration": expiration,
    }
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{between.endpoint}/role")
    await opened(between.url(credentials="")).setup()
    assert "Credential=of-the-role/" in between.headers[0]["Authorization"]
    assert between.headers[0]["X-Amz-Security-Token"] == "its-token"


async def test_where_nobody_has_credentials_that_is_said(between: Between, opened: Open) -> None:
    assert "no credentials for AWS" in await problem_of(opened(between.url(credentials="")))


@pytest.mark.parametrize("code", ["UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException"])
async def test_credentials_that_aws_does_not_know_are_a_mistake_and_no_outage(
    code: str, between: Between, store: Engine
) -> None:
    between.refused = dict.fromkeys(ACTIONS, code)
    problem = await problem_of(store)
    assert code in problem
    assert "secret" not in problem


async def test_replicas_that_start_at_once_make_one_table(moto: DynamoDBServer, between: Between, opened: Open) -> None:
    replicas = [opened(between.url()) for _ in range(REPLICAS)]
    between.held = {"DescribeTable": Barrier(REPLICAS)}
    await asyncio.gather(*(replica.setup() for replica in replicas))
    assert [action for action, _ in between.asked].count("CreateTable") == REPLICAS
    assert [await replica.warnings() for replica in replicas] == [[]] * REPLICAS
    table = moto.client().describe_table(TableName=moto.table)["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionProtectionEnabled"]
    ttl = moto.client().describe_time_to_live(TableName=moto.table)["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "ttl")


async def test_a_missing_table_is_made_by_nobody_who_may_not(moto: DynamoDBServer, opened: Open) -> None:
    store = opened(moto.url, may_create=False)
    assert not await store.exists()
    assert "the table holdfast does not exist in eu-central-1" in await problem_of(store)
    assert moto.client().list_tables()["TableNames"] == []


@pytest.mark.parametrize(("names", "kind"), [(("key", "collection"), "S"), (("collection", "key"), "N")])
async def test_a_table_with_other_keys_is_not_touched(
    names: tuple[str, str], kind: str, moto: DynamoDBServer, opened: Open
) -> None:
    moto.client().create_table(
        TableName=moto.table,
        KeySchema=[
            {"AttributeName": name, "KeyType": role} for name, role in zip(names, ("HASH", "RANGE"), strict=True)
        ],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name in names],
        BillingMode="PAY_PER_REQUEST",
    )
    assert "has other keys" in await problem_of(opened(moto.url))


@pytest.mark.parametrize("action", [*ACTIONS, "CreateTable"])
async def test_a_missing_permission_is_named_with_the_table(action: str, between: Between, store: Engine) -> None:
    between.refused = {action: "AccessDeniedException"}
    assert f"does not allow dynamodb:{action} on the table holdfast;" in await problem_of(store)


async def test_no_permission_for_expiry_is_a_warning(between: Between, store: Engine) -> None:
    between.refused = {"UpdateTimeToLive": "AccessDeniedException"}
    assert "enable TTL of holdfast on the attribute ttl" in str(await store.warnings())
    between.refused = {"DescribeTimeToLive": "AccessDeniedException"}
    assert "dynamodb:DescribeTimeToLive" in str(await store.warnings())


async def test_what_is_tried_at_the_start_changes_nothing(moto: DynamoDBServer, store: Engine) -> None:
    await store.setup()
    assert moto.dump() == b"[[]]"


async def test_expiry_is_exact_for_conditions_and_rounded_up_for_dynamodb(moto: DynamoDBServer, store: Engine) -> None:
    await store.put("key", {"a": 1}, collection="one", ttl=60.5)
    entry = await store.read("key", collection="one")
    assert entry is not None
    assert entry.expires_at is not None
    (item,) = moto.client().scan(TableName=moto.table)["Items"]
    assert float(item["expires_at"]["N"]) == entry.expires_at.timestamp()
    assert item["ttl"]["N"] == str(math.ceil(entry.expires_at.timestamp()))
    await store.put("key", {"a": 1}, collection="one")
    (item,) = moto.client().scan(TableName=moto.table)["Items"]
    assert item.keys() == {"collection", "key", "value"}


async def test_every_read_is_consistent(between: Between, store: Engine) -> None:
    await store.put("key", {"a": 1}, collection="one", ttl=60)
    entry = await store.read("key", collection="one")
    assert entry is not None
    await store.replace("key", collection="one", expected=entry, value={"a": 2})
    await store.set_aside("key", collection="one", entry=entry)
    await store.count("one", at_most=5)
    assert [key async for key, _ in store.entries("one")] == ["key"]
    assert await store.collection_names() == ["one"]
    between.asked = [(action, body) for action, body in between.asked if body.get("Limit") != 1]
    reads = [body for action, body in between.asked if action in {"GetItem", "Query", "Scan"}]
    assert len(reads) > 5
    assert all(body["ConsistentRead"] for body in reads)


async def test_a_record_whose_answer_was_lost_is_still_ours(between: Between, store: Engine) -> None:
    await store.setup()
    between.lost = ["PutItem"]
    assert await store.add("key", {"by": "us"}, collection="one", ttl=60)
    between.lost = ["PutItem"]
    assert not await store.add("key", {"by": "us"}, collection="one", ttl=60)
    entry = await store.read("key", collection="one")
    assert entry is not None
    between.lost = ["UpdateItem"]
    assert await store.replace("key", collection="one", expected=entry, value={"by": "us again"})
    assert await store.get("key", collection="one") == {"by": "us again"}
    assert between.lost == []


async def test_a_deletion_whose_answer_was_lost_claims_nothing(between: Between, store: Engine) -> None:
    await store.put("key", {"a": 1}, collection="one", ttl=60)
    between.lost = ["DeleteItem"]
    assert not await store.delete("key", collection="one")
    assert await store.get("key", collection="one") is None


async def test_of_replicas_that_renew_a_record_at_once_one_wins(moto: DynamoDBServer, opened: Open) -> None:
    replicas = [opened(moto.url) for _ in range(REPLICAS)]
    for number in range(5):
        await replicas[0].put("key", {"number": number}, collection="one", ttl=60)
        entry = await replicas[0].read("key", collection="one")
        assert entry is not None
        won = await asyncio.gather(
            *(
                replica.replace("key", collection="one", expected=entry, value={"by": by})
                for by, replica in enumerate(replicas)
            )
        )
        assert sum(won) == 1
        assert await replicas[0].get("key", collection="one") == {"by": won.index(True)}


async def test_an_expired_record_that_dynamodb_still_holds_can_be_claimed_by_nobody(
    moto: DynamoDBServer, store: Engine
) -> None:
    await store.put("key", {"a": 1}, collection="one", ttl=0.001)
    assert b"'key'" in moto.dump()
    assert [key async for key, _ in store.entries("one")] == []
    assert not await store.delete("key", collection="one")


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"value": {"S": "{"}},
        {"value": {"S": "[]"}},
        {"value": {"N": "1"}},
        {"value": {"S": "[" * 100_000}},
        {"value": {"S": '{"value": {"a": 1}, "expires_at": "2999-01-01T00:00:00"}'}},
    ],
    ids=["nothing", "a part", "a list", "a number", "deep lists", "an expiry without a zone"],
)
async def test_a_damaged_item_is_a_miss_and_set_aside(
    value: dict[str, Any], moto: DynamoDBServer, store: Engine
) -> None:
    await store.setup()
    item = {"collection": {"S": "one"}, "key": {"S": "key"}, **value}
    moto.client().put_item(TableName=moto.table, Item=item)
    assert [key async for key, _ in store.entries("one")] == []
    assert not await store.add("key", {"a": 2}, collection="one", ttl=60)
    assert await store.get("key", collection="one") is None
    (aside,) = moto.client().scan(TableName=moto.table)["Items"]
    assert aside["collection"] == {"S": QUARANTINE_COLLECTION}
    assert aside.get("value") == value.get("value")
    assert "ttl" in aside
    assert await store.add("key", {"a": 2}, collection="one", ttl=60)


@pytest.mark.parametrize("code", THROTTLED)
async def test_throttling_is_an_outage(code: str, between: Between, store: Engine) -> None:
    await store.setup()
    between.refused = {"GetItem": code, "PutItem": code}
    with pytest.raises(StoreConnectionError, match=code):
        await store.get("key", collection="one")
    with pytest.raises(StoreConnectionError, match=code):
        await store.add("key", {"a": 1}, collection="one")
    between.refused = {}
    assert await store.add("key", {"a": 1}, collection="one")


@pytest.mark.usefixtures("in_earnest")
async def test_a_server_that_hangs_is_given_up_before_a_request_is(moto: DynamoDBServer, opened: Open) -> None:
    store = opened(moto.url)
    await store.setup()
    moto.hang()
    try:
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(StoreConnectionError):
                await store.get("key", collection="one")
    finally:
        moto.go_on()
    assert await store.get("key", collection="one") is None


async def test_a_record_that_no_item_could_hold_is_a_mistake_and_no_outage(store: Engine) -> None:
    with pytest.raises(ValueTooLargeError):
        await store.put("key", {"sealed": "x" * 400 * 1024}, collection="one")


async def test_many_pages_are_one_collection(between: Between, store: Engine) -> None:
    for number in range(9):
        await store.put(f"key {number}", {"sealed": "x" * 300_000}, collection="one")
    between.asked = []
    assert sorted([key async for key, _ in store.entries("one")]) == [f"key {number}" for number in range(9)]
    assert [action for action, _ in between.asked].count("Query") > 2
    assert await store.count("one", at_most=7) == 7
    assert await store.count("one", at_most=70) == 9


async def test_dynamodb_local_has_one_winner_and_keeps_the_records(tmp_path: Path, opened: Open) -> None:
    local = DynamoDBLocal(tmp_path).start()
    try:
        replicas = [opened(local.url) for _ in range(REPLICAS)]
        await asyncio.gather(*(replica.setup() for replica in replicas))
        for number in range(20):
            key = f"record {number}"
            added = await asyncio.gather(
                *(replica.add(key, {"by": by}, collection="one", ttl=60) for by, replica in enumerate(replicas))
            )
            assert sum(added) == 1
            assert await replicas[0].get(key, collection="one") == {"by": added.index(True)}
            taken = await asyncio.gather(*(replica.delete(key, collection="one") for replica in replicas))
            assert sum(taken) == 1
        assert await replicas[0].add("kept", {"a": 1}, collection="one", ttl=60)
        local.restart()
        assert await replicas[1].get("kept", collection="one") == {"a": 1}
        await replicas[0].add("brief", {"a": 1}, collection="one", ttl=0.001)
        assert await replicas[1].add("brief", {"a": 2}, collection="one", ttl=60)
    finally:
        local.kill()
