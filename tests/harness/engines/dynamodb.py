"""DynamoDB by two stand-ins: moto from PyPI, in memory, and AWS's own DynamoDB Local from npm, which writes to disk."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import boto3  # type: ignore[import-untyped]
import httpx
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

from harness.engines.process import HOST, ROOT, EngineProcess

REGION = "eu-central-1"
ACCESS_KEY, SECRET = "AKIAHOLDFAST", "secret/key+100%@"
"""Characters that a URL must encode."""


class DynamoDBServer(EngineProcess):
    """moto: knows IAM, TTL settings and deletion protection; takes one request at a time, and throttles nobody."""

    backend = "dynamodb"
    keeps_what_it_holds = False
    table = "holdfast"

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return self.url_of(ACCESS_KEY, SECRET)

    def url_of(self, access_key: str, secret: str) -> str:
        credentials = f"{quote(access_key, safe='')}:{quote(secret, safe='')}"
        return f"dynamodb://{credentials}@{self.table}?region={REGION}&endpoint_url={quote(self.endpoint, safe='')}"

    def command(self) -> Sequence[str]:
        return [sys.executable, str(ROOT / "tests/harness/engines/moto_one_by_one.py"), HOST, str(self.port)]

    def prepare(self) -> None:
        """The package carries the program."""

    def answers(self) -> bool:
        if not super().answers():
            return False
        try:
            self.client().list_tables()
        except BotoCoreError:
            return False
        return True

    def client(self, service: str = "dynamodb") -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET,
        )

    def empty(self) -> None:
        httpx.post(f"{self.endpoint}/moto-api/reset").raise_for_status()

    def files(self) -> bytes:
        """What it holds is in its memory only."""
        return self.dump()

    def dump(self) -> bytes:
        client = self.client()
        pages = [
            page["Items"]
            for name in client.list_tables()["TableNames"]
            for page in client.get_paginator("scan").paginate(TableName=name)
        ]
        return repr(pages).encode()


class DynamoDBLocal(DynamoDBServer):
    """AWS's own expressions, conditions and page sizes, concurrently; old, so no condition tells what it found."""

    keeps_what_it_holds = True
    script = ROOT / "scripts/dynamodb-local.sh"

    def prepare(self) -> None:
        subprocess.run([self.script], check=True)

    def command(self) -> Sequence[str]:
        return [str(self.script), str(self.port), str(self.directory)]

    def empty(self) -> None:
        client = self.client()
        for name in client.list_tables()["TableNames"]:
            client.delete_table(TableName=name)

    def files(self) -> bytes:
        return EngineProcess.files(self)
