"""Engines that keep the store's records, started for real on this machine."""

from collections.abc import Mapping

from harness.engines.dynamodb import DynamoDBLocal, DynamoDBServer
from harness.engines.mongodb import MongoDBStandIn
from harness.engines.pgbouncer import PgBouncer
from harness.engines.postgresql import PostgreSQLServer, PostgreSQLStandby
from harness.engines.process import EngineProcess
from harness.engines.redis import RedisServer, ValkeyServer

ENGINES: Mapping[str, type[EngineProcess]] = {
    engine.backend: engine for engine in (RedisServer, ValkeyServer, PostgreSQLServer, DynamoDBServer, MongoDBStandIn)
}

__all__ = [
    "ENGINES",
    "DynamoDBLocal",
    "DynamoDBServer",
    "EngineProcess",
    "MongoDBStandIn",
    "PgBouncer",
    "PostgreSQLServer",
    "PostgreSQLStandby",
    "RedisServer",
    "ValkeyServer",
]
