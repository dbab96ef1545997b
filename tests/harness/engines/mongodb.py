"""MongoDB, which is in none of the registries: a stand-in that speaks its protocol with the real client."""

import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

from harness.engines.process import HOST, ROOT, EngineProcess

USER, PASSWORD, READER = "holdfast", "p@ss/word:100%", "auditor"
"""Characters that a URL must encode."""


class MongoDBStandIn(EngineProcess):
    """In memory; mongodb_stand_in.py tells what it does as MongoDB does."""

    backend = "mongodb"
    keeps_what_it_holds = False
    database = "sign-ins"

    @property
    def url(self) -> str:
        return self.url_of(USER, PASSWORD)

    def url_of(self, user: str, password: str) -> str:
        credentials = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"mongodb://{credentials}@{HOST}:{self.port}/{self.database}?authMechanism=PLAIN"

    def prepare(self) -> None:
        """It is a program of this directory."""

    def command(self) -> Sequence[str]:
        program = ROOT / "tests/harness/engines/mongodb_stand_in.py"
        return [sys.executable, str(program), HOST, str(self.port), USER, PASSWORD, READER]

    def client(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.url, w="majority", readConcernLevel="majority")

    def empty(self) -> None:
        with self.client() as client:
            client.drop_database(self.database)

    def files(self) -> bytes:
        """What it holds is in its memory only."""
        return self.dump()

    def dump(self) -> bytes:
        with self.client() as client:
            database = client.get_database(self.database, read_concern=ReadConcern("majority"))
            return repr({name: list(database[name].find()) for name in database.list_collection_names()}).encode()
