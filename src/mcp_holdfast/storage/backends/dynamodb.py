"""Records in a table of DynamoDB.

The table has the keys of py-key-value's: `collection` (partition) and `key` (sort). An item has the record as JSON in
`value`, the moment that it expires in `expires_at`, for conditions, and in `ttl`, by which DynamoDB removes it some
time later. Every read is consistent, and what must have one winner is one conditional write.
"""

import asyncio
import math
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import aiohttp
from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from key_value.aio._utils.compound import compound_key
from key_value.aio._utils.managed_entry import ManagedEntry
from key_value.aio._utils.time_to_live import prepare_entry_timestamps
from key_value.aio.errors import ValueTooLargeError
from key_value.aio.stores.dynamodb import DynamoDBStore

from mcp_holdfast.storage.backends.engine import (
    ANSWERS_WITHIN,
    CONNECTS_WITHIN,
    QUARANTINE_COLLECTION,
    UNREADABLE,
    Engine,
    EngineProblem,
    parameters_of,
    parts_of,
    reported,
)

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient
    from types_aiobotocore_dynamodb.type_defs import TableDescriptionTypeDef

Item = dict[str, Any]

TRIES = 2
"""Both end before the deadline of a storage operation."""

MOST_CONNECTIONS = 50
LARGEST_VALUE = 390 * 1024
"""In bytes; DynamoDB takes 400 KiB an item, with its names and its other attributes."""

MADE_WITHIN = 60
"""Seconds that a new table may take."""

KEY_SCHEMA = {"collection": "HASH", "key": "RANGE"}
TTL_ATTRIBUTE = "ttl"
NAMES = {f"#{name}": name for name in ("collection", "key", "value", "expires_at")}
"""Most of these are words that expressions reserve."""

UNLESS_ONE_LIVES = "attribute_not_exists(#key) OR #expires_at <= :now"
IF_THERE = "attribute_exists(#key)"

ACTIONS = (
    *("dynamodb:DescribeTable", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"),
    *("dynamodb:DeleteItem", "dynamodb:Query", "dynamodb:Scan"),
)
"""What must be allowed on the table."""

REFUSED = {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"}
WRONG_CREDENTIALS = {
    *("UnrecognizedClientException", "InvalidSignatureException", "InvalidClientTokenId", "IncompleteSignature"),
    *("MissingAuthenticationTokenException", "MissingAuthenticationToken", "ExpiredTokenException", "ExpiredToken"),
}


class DynamoDBEngine(Engine, DynamoDBStore):
    """Records that DynamoDB removes hours or days after they expired; until then they are not answered any more."""

    failures: ClassVar[tuple[type[Exception], ...]] = (ClientError, BotoCoreError, aiohttp.ClientError, OSError)

    def __init__(self, url: str, *, quarantine: float, may_create: bool = True) -> None:
        self.quarantine = quarantine
        self.may_create = may_create
        settings = settings_of(url)
        try:
            DynamoDBStore.__init__(self, **settings)
            region = self._aws.region_name
        except BotoCoreError as error:
            raise EngineProblem(f"AWS's own configuration on this machine cannot be used: {error}") from None
        if region is None:
            raise EngineProblem("the region is missing: add ?region=, as in eu-central-1, or set AWS_REGION")
        self._options = AioConfig(
            connect_timeout=CONNECTS_WITHIN,
            read_timeout=ANSWERS_WITHIN,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            max_pool_connections=MOST_CONNECTIONS,
        )

    @property
    def _aws(self) -> Any:
        return self._session

    def _new_client(self) -> Any:
        return self._aws.client("dynamodb", endpoint_url=self._endpoint_url, config=self._options)

    @reported
    async def exists(self) -> bool:
        async with self._new_client() as client:
            return await self._described(client) is not None

    @reported
    async def warnings(self) -> list[str]:
        await self.setup()
        try:
            answer = await self._connected_client.describe_time_to_live(TableName=self._table_name)
        except ClientError as error:
            if _code(error) not in REFUSED:
                raise
            return ["does not tell whether it removes expired records; allow dynamodb:DescribeTimeToLive"]
        described = answer["TimeToLiveDescription"]
        is_on = described.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}
        if is_on and described.get("AttributeName") == TTL_ATTRIBUTE:
            return []
        return [f"keeps expired records for ever; enable TTL of {self._table_name} on the attribute {TTL_ATTRIBUTE}"]

    async def _connect(self) -> None:
        self._client = await self._new_client().__aenter__()

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _prepare(self) -> None:
        table = await self._described(self._connected_client)
        if table is None:
            if not self.may_create:
                raise EngineProblem(
                    f"the table {self._table_name} does not exist in {self._aws.region_name}; make one with the "
                    "partition key collection and the sort key key, both strings, or let the server make it"
                )
            await self._make_table()
        elif not _has_our_keys(table):
            raise EngineProblem(
                f"the table {self._table_name} has other keys: it needs the partition key collection and the sort key "
                "key; name another table"
            )
        waiter = self._connected_client.get_waiter("table_exists")
        await waiter.wait(TableName=self._table_name, WaiterConfig={"Delay": 1, "MaxAttempts": MADE_WITHIN})
        if self.may_create:
            await self._enable_ttl()
        await self._try_each_action()

    async def _described(self, client: "DynamoDBClient") -> "TableDescriptionTypeDef | None":
        """The table; None if there is none.

        Raises:
            EngineProblem: it may not be seen.

        """
        try:
            answer = await self._allowed("dynamodb:DescribeTable", client.describe_table(TableName=self._table_name))
        except client.exceptions.ResourceNotFoundException:
            return None
        table: TableDescriptionTypeDef = answer["Table"]
        return table

    async def _make_table(self) -> None:
        """Make the table, unless another replica makes it now. It must be unprotected before it can be deleted."""
        client = self._connected_client
        making = client.create_table(
            TableName=self._table_name,
            KeySchema=[
                {"AttributeName": "collection", "KeyType": "HASH"},
                {"AttributeName": "key", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in KEY_SCHEMA],
            BillingMode="PAY_PER_REQUEST",
            DeletionProtectionEnabled=True,
        )
        try:
            await self._allowed("dynamodb:CreateTable", making)
        except client.exceptions.ResourceInUseException:
            return

    async def _enable_ttl(self) -> None:
        """Let DynamoDB remove what expired; `warnings` tells where that may not be done."""
        client = self._connected_client
        try:
            answer = await client.describe_time_to_live(TableName=self._table_name)
            if answer["TimeToLiveDescription"].get("TimeToLiveStatus") == "DISABLED":
                specification: Any = {"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
                await client.update_time_to_live(TableName=self._table_name, TimeToLiveSpecification=specification)
        except ClientError as error:
            # Refused, or another replica enables it now.
            if _code(error) not in {*REFUSED, "ValidationException", "ResourceInUseException"}:
                raise

    async def _try_each_action(self) -> None:
        """See that what the records need is allowed, in ways that change nothing.

        Raises:
            EngineProblem: it is not.

        """
        client, table = self._connected_client, self._table_name
        key: Any = _place(QUARANTINE_COLLECTION, "a record that is never there")
        condition: Any = {"ConditionExpression": IF_THERE, "ExpressionAttributeNames": _names("#key")}
        actions: dict[str, Awaitable[Any]] = {
            "dynamodb:GetItem": client.get_item(TableName=table, Key=key, ConsistentRead=True),
            "dynamodb:PutItem": client.put_item(TableName=table, Item=key, **condition),
            "dynamodb:UpdateItem": client.update_item(TableName=table, Key=key, **condition),
            "dynamodb:DeleteItem": client.delete_item(TableName=table, Key=key, **condition),
            "dynamodb:Query": self._query(QUARANTINE_COLLECTION, Limit=1),
            "dynamodb:Scan": client.scan(TableName=table, Limit=1),
        }
        tried = (self._allowed(action, request) for action, request in actions.items())
        for outcome in await asyncio.gather(*tried, return_exceptions=True):
            if isinstance(outcome, BaseException) and not _is_failed_condition(outcome):
                raise outcome

    async def _allowed(self, action: str, request: Awaitable[Any]) -> Any:
        """Do what a request does.

        Raises:
            EngineProblem: AWS refuses it, and would do so again.

        """
        try:
            return await request
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise EngineProblem(
                f"there are no credentials for AWS ({error}); give the task or the instance a role, set "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or put them in the URL, percent-encoded"
            ) from None
        except ClientError as error:
            if _code(error) in WRONG_CREDENTIALS:
                raise EngineProblem(f"AWS does not accept the credentials ({_code(error)}); correct them") from None
            if _code(error) not in REFUSED:
                raise
            needed = ACTIONS if action in ACTIONS else (*ACTIONS, action)
            raise EngineProblem(
                f"AWS does not allow {action} on the table {self._table_name}; allow the role or user "
                f"{', '.join(needed)} on it"
            ) from None

    @reported
    async def _get_managed_entry(self, *, key: str, collection: str) -> ManagedEntry | None:
        item = await self._item(key, collection)
        if item is None:
            return None
        entry = self._entry_in(item)
        if entry is None:
            await self._put_aside(item)
        return entry

    @reported
    async def _put_managed_entry(self, *, key: str, collection: str, managed_entry: ManagedEntry) -> None:
        item: Any = self._item_of(key, collection, managed_entry)
        await self._connected_client.put_item(TableName=self._table_name, Item=item)

    @reported
    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        try:
            answer = await self._connected_client.delete_item(
                TableName=self._table_name,
                Key=_place(collection, key),
                ConditionExpression=IF_THERE,
                ExpressionAttributeNames=_names("#key"),
                ReturnValues="ALL_OLD",
            )
        except ClientError as error:
            if not _is_failed_condition(error):
                raise
            return False
        entry = self._entry_in({**answer["Attributes"]})
        return entry is not None and not entry.is_expired

    @reported
    async def add(self, key: str, value: Mapping[str, Any], *, collection: str, ttl: float | None = None) -> bool:
        await self.setup_collection(collection=collection)
        created_at, _, expires_at = prepare_entry_timestamps(ttl=ttl)
        entry = ManagedEntry(value=value, created_at=created_at, expires_at=expires_at)
        item: Any = self._item_of(key, collection, entry)
        return await self._is_done(
            self._connected_client.put_item,
            item["value"],
            Item=item,
            ConditionExpression=UNLESS_ONE_LIVES,
            ExpressionAttributeNames=_names("#key", "#expires_at"),
            ExpressionAttributeValues={":now": _number(created_at.timestamp())},
        )

    async def _is_done(self, write: Callable[..., Awaitable[Any]], text: Item, **request: Any) -> bool:
        """Do a conditional write of a value, and tell whether it is stored.

        The answer to the first try may have been lost: then the condition of the second one fails because of our own
        value, which is like no other.
        """
        try:
            await write(TableName=self._table_name, ReturnValuesOnConditionCheckFailure="ALL_OLD", **request)
        except ClientError as error:
            if not _is_failed_condition(error):
                raise
            return bool(error.response.get("Item", {}).get("value") == text)
        return True

    async def entries(self, collection: str) -> AsyncIterator[tuple[str, ManagedEntry]]:
        with self.reporting():
            await self.setup_collection(collection=collection)
            async for page in self._pages(collection):
                for item in page["Items"]:
                    entry = self._entry_in(item)
                    if entry is not None and not entry.is_expired:
                        yield item["key"]["S"], entry

    @reported
    async def count(self, collection: str, *, at_most: int) -> int:
        await self.setup_collection(collection=collection)
        count = 0
        async for page in self._pages(collection, Select="COUNT", Limit=at_most):
            count += page["Count"]
            if count >= at_most:
                break
        return min(count, at_most)

    @reported
    async def collection_names(self) -> list[str]:
        """The names of all collections. Reads the whole table, and costs as much: keep it for commands and starts."""
        await self.setup()
        found = set()
        start: Item = {}
        while True:
            page = await self._connected_client.scan(
                TableName=self._table_name,
                ConsistentRead=True,
                ProjectionExpression="#collection",
                ExpressionAttributeNames=_names("#collection"),
                **start,
            )
            found |= {item["collection"]["S"] for item in page["Items"]}
            if "LastEvaluatedKey" not in page:
                return sorted(found - {QUARANTINE_COLLECTION})
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    @reported
    async def replace(self, key: str, *, collection: str, expected: ManagedEntry, value: Mapping[str, Any]) -> bool:
        await self.setup_collection(collection=collection)
        item = await self._item(key, collection)
        if item is None or self._entry_in(item) != expected:
            return False
        entry = ManagedEntry(value=value, created_at=expected.created_at, expires_at=expected.expires_at)
        text = self._item_of(key, collection, entry)["value"]
        return await self._is_done(
            self._connected_client.update_item,
            text,
            Key=_place(collection, key),
            UpdateExpression="SET #value = :new",
            ConditionExpression="#value = :old",
            ExpressionAttributeNames=_names("#value"),
            ExpressionAttributeValues={":new": text, ":old": item["value"]},
        )

    @reported
    async def set_aside(self, key: str, *, collection: str, entry: ManagedEntry) -> None:
        await self.setup_collection(collection=collection)
        item = await self._item(key, collection)
        if item is not None and self._entry_in(item) == entry:
            await self._put_aside(item)

    async def _put_aside(self, item: Item) -> None:
        collection, key = item["collection"]["S"], item["key"]["S"]
        until = time.time() + self.quarantine
        place = _place(QUARANTINE_COLLECTION, compound_key(collection=collection, key=key))
        await self._connected_client.put_item(TableName=self._table_name, Item={**item, **place, **_expiring(until)})
        condition: Any = {"ConditionExpression": "attribute_not_exists(#value)"}
        if "value" in item:
            condition = {
                "ConditionExpression": "#value = :value",
                "ExpressionAttributeValues": {":value": item["value"]},
            }
        try:
            await self._connected_client.delete_item(
                TableName=self._table_name,
                Key=_place(collection, key),
                ExpressionAttributeNames=_names("#value"),
                **condition,
            )
        except ClientError as error:
            if not _is_failed_condition(error):
                raise

    async def _item(self, key: str, collection: str) -> Item | None:
        place: Any = _place(collection, key)
        answer = await self._connected_client.get_item(TableName=self._table_name, Key=place, ConsistentRead=True)
        return answer.get("Item") or None

    async def _pages(self, collection: str, **request: Any) -> AsyncIterator[Any]:
        while True:
            page = await self._query(collection, **request)
            yield page
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def _query(self, collection: str, **request: Any) -> Any:
        return await self._connected_client.query(
            TableName=self._table_name,
            ConsistentRead=True,
            KeyConditionExpression="#collection = :collection",
            ExpressionAttributeNames=_names("#collection"),
            ExpressionAttributeValues={":collection": {"S": collection}},
            **request,
        )

    def _item_of(self, key: str, collection: str, entry: ManagedEntry) -> Item:
        text = self._serialization_adapter.dump_json(entry=entry, key=key, collection=collection)
        if (size := len(text.encode())) > LARGEST_VALUE:
            raise ValueTooLargeError(size=size, max_size=LARGEST_VALUE, collection=collection, key=key)
        expiry = {} if entry.expires_at is None else _expiring(entry.expires_at.timestamp())
        return {**_place(collection, key), "value": {"S": text}, **expiry}

    def _entry_in(self, item: Item) -> ManagedEntry | None:
        try:
            entry = self._serialization_adapter.load_json(json_str=item["value"]["S"])
        except UNREADABLE:
            return None
        return None if entry.expires_at is not None and entry.expires_at.tzinfo is None else entry


def _place(collection: str, key: str) -> Item:
    return {"collection": {"S": collection}, "key": {"S": key}}


def _expiring(moment: float) -> Item:
    return {"expires_at": _number(moment), TTL_ATTRIBUTE: {"N": str(math.ceil(moment))}}


def _number(moment: float) -> Item:
    return {"N": f"{moment:.6f}"}


def _names(*placeholders: str) -> dict[str, str]:
    return {placeholder: NAMES[placeholder] for placeholder in placeholders}


def _has_our_keys(table: "TableDescriptionTypeDef") -> bool:
    types = {attribute["AttributeName"]: attribute["AttributeType"] for attribute in table["AttributeDefinitions"]}
    schema = {key["AttributeName"]: key["KeyType"] for key in table["KeySchema"]}
    return schema == KEY_SCHEMA and all(types[name] == "S" for name in KEY_SCHEMA)


def _code(error: ClientError) -> str:
    code: str = error.response.get("Error", {}).get("Code", "")
    return code


def _is_failed_condition(error: BaseException) -> bool:
    return isinstance(error, ClientError) and _code(error) == "ConditionalCheckFailedException"


def _region(text: str) -> str:
    return _matching(r"[a-z0-9-]+", text)


def _endpoint(text: str) -> str:
    if "@" in text:
        raise EngineProblem("endpoint_url has no user and password; credentials stand before the table, with an @")
    if urlsplit(text).port == 0:
        raise ValueError(text)
    return _matching(r"https?://[^/?#\s]+\S*", text)


def _matching(pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text):
        raise ValueError(text)
    return text


def settings_of(url: str) -> dict[str, Any]:
    """What a URL says, as DynamoDBStore wants it: dynamodb://[ACCESS_KEY:SECRET@]TABLE?region=&endpoint_url=&session_token=.

    All parts are percent-decoded. Without credentials, AWS's own chain finds them: the environment, the role of an ECS
    task or an instance, a profile. The region may also be in AWS_REGION, AWS_DEFAULT_REGION or a profile.

    Raises:
        EngineProblem: the URL is wrong; the message shows nothing of the credentials.

    """
    parts = parts_of(url)
    credentials, _, table = parts.netloc.rpartition("@")
    if parts.path.strip("/") or parts.fragment or not re.fullmatch(r"[A-Za-z0-9_.-]{3,255}", unquote(table)):
        raise EngineProblem(
            "the URL does not name a table, as in dynamodb://holdfast?region=eu-central-1: a table's name has 3 to 255 "
            "letters, digits, '_', '-' and '.', and special characters in credentials must be percent-encoded"
        )
    query = parse_qs(parts.query, keep_blank_values=True)
    given = parameters_of(query, {"region": _region, "endpoint_url": _endpoint, "session_token": str})
    if query:
        raise EngineProblem(
            f"DynamoDB knows no parameter {min(query)}; it knows region, endpoint_url and session_token"
        )
    access_key, _, secret = (unquote(part) for part in credentials.partition(":"))
    if bool(access_key) != bool(secret):
        raise EngineProblem(
            "credentials in the URL are an access key and its secret, as in dynamodb://KEY:SECRET@table"
        )
    if "session_token" in given and not access_key:
        raise EngineProblem("session_token belongs to an access key and a secret, and the URL has none")
    return {
        "table_name": unquote(table),
        # botocore itself looks at AWS_DEFAULT_REGION and the profile, but not at what other AWS clients look at first.
        "region_name": given.get("region") or os.environ.get("AWS_REGION"),
        "endpoint_url": given.get("endpoint_url"),
        "aws_access_key_id": access_key or None,
        "aws_secret_access_key": secret or None,
        "aws_session_token": given.get("session_token") or None,
    }
