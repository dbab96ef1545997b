"""A stand-in for an Exasol database: version 3 of its WebSocket protocol, with what exasol's MCP server uses of it.

As Exasol documents it: TLS; the login by password, which travels encrypted with a key of the server's, and the login
by OpenID access token, which is checked against the issuer's keys and names the user by its subject; compression;
result sets that are fetched in pieces; IMPERSONATE for users with that privilege; names of users in any case. What it
has not: refresh tokens, privileges on tables, transactions, prepared statements, parallel connections. Its SQL is in
sql.py.

https://github.com/exasol/websocket-api/blob/master/docs/WebsocketAPIV3.md

It is told by environment variables what to do: PORT, CERTIFICATE, KEY, PASSWORD (of its only user with a password),
ISSUER and JWKS_URI (whose tokens it takes), EVENTS (where to write what it did, one JSON object a line).
"""

import asyncio
import base64
import json
import os
import re
import signal
import ssl
import zlib
from collections.abc import Mapping
from functools import partial
from itertools import count
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from websockets.asyncio.server import ServerConnection, serve

from harness.exasol.sql import ResultSet, Row, Sql, SqlError

Message = dict[str, Any]

PASSWORD_USER = "MCP"
"""Has the privilege IMPERSONATE ANY USER too."""

SUBJECTS = {"ada": "ADA", "grace": "GRACE"}
"""The users that are IDENTIFIED BY OPENID SUBJECT."""

USERS = {PASSWORD_USER, *SUBJECTS.values()}
ROWS_IN_FIRST_ANSWER = 1000
ROWS_IN_PIECE = 1000
IMPERSONATE = re.compile(r'IMPERSONATE\s+"(.+)"', re.IGNORECASE)
LOGIN_FAILED, NO_SUCH_COMMAND, SYNTAX_ERROR, NOT_ALLOWED = "08004", "0A000", "42000", "42500"
ABOUT = {
    "protocolVersion": 3,
    "releaseVersion": "8.34.0",
    "databaseName": "STANDIN",
    "productName": "EXASolution",
    "maxDataMessageSize": 64 << 20,
    "maxIdentifierLength": 128,
    "maxVarcharLength": 2_000_000,
    "identifierQuoteString": '"',
    "timeZone": "UTC",
    "timeZoneBehavior": "INVALID SHIFT AMBIGUOUS ST",
}


class Refused(Exception):
    """The answer is an error."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Database:
    """What all sessions share."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.sql = Sql()
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.session_numbers = count(1)
        self._password = environ["PASSWORD"]
        self._issuer = environ["ISSUER"]
        self._jwks_uri = environ["JWKS_URI"]
        self._events = open(environ["EVENTS"], "a")  # noqa: SIM115, PTH123  # until the process ends

    def note(self, event: str, **fields: Any) -> None:
        self._events.write(json.dumps({"event": event, **fields}) + "\n")
        self._events.flush()

    def user_of_password(self, request: Message) -> str | None:
        encrypted = base64.b64decode(request["password"])
        password = self.key.decrypt(encrypted, padding.PKCS1v15()).decode()
        name = str(request["username"]).upper()
        return name if name == PASSWORD_USER and password == self._password else None

    async def user_of_token(self, token: str) -> str | None:
        async with httpx.AsyncClient() as http:
            keys = KeySet.import_key_set((await http.get(self._jwks_uri)).json())
        claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": self._issuer}, sub={"essential": True}, exp={"essential": True}
        )
        try:
            decoded = jwt.decode(token, keys, algorithms=["RS256"])
            claims.validate(decoded.claims)
        except (JoseError, ValueError):
            return None
        return SUBJECTS.get(decoded.claims["sub"])


class Session:
    """One connection."""

    def __init__(self, database: Database) -> None:
        self.number = next(database.session_numbers)
        self.is_compressed = False
        self._database = database
        self._login = ""
        self._user = ""
        self._results: dict[int, list[Row]] = {}

    async def answer(self, request: Message) -> Message:
        try:
            return {"status": "ok", **await self._answer(request)}
        except (Refused, SqlError) as error:
            code = error.code if isinstance(error, Refused) else SYNTAX_ERROR
            return {"status": "error", "exception": {"sqlCode": code, "text": f"{error} (Session: {self.number})"}}

    async def _answer(self, request: Message) -> Message:
        command = request.get("command")
        if not self._user:
            return await self._begin(request)
        match command:
            case "execute":
                return self._execute(request["sqlText"])
            case "fetch":
                return self._fetch(request["resultSetHandle"], request["startPosition"])
            case "closeResultSet":
                for handle in request["resultSetHandles"]:
                    self._results.pop(handle, None)
                return {}
            case "getAttributes":
                return {"attributes": {"autocommit": True, "currentSchema": "", "queryTimeout": 0, "timezone": "UTC"}}
            case "disconnect":
                return {}
        raise Refused(NO_SUCH_COMMAND, f"the stand-in has no command {command}")

    async def _begin(self, request: Message) -> Message:
        """Take both steps of a login: the command, then who it is."""
        if "command" in request:
            self._login = request["command"]
            if self._login not in {"login", "loginToken"}:
                raise Refused(LOGIN_FAILED, "Connection exception - not logged in.")
            pem = self._database.key.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode()
            return {"responseData": {"publicKeyPem": pem}} if self._login == "login" else {}
        if self._login == "login":
            credential, user = "", self._database.user_of_password(request)
        else:
            credential = request["accessToken"]
            user = await self._database.user_of_token(credential)
        self.is_compressed = bool(user and request["useCompression"])
        self._database.note(
            "login", command=self._login, user=user, credential=credential, is_compressed=self.is_compressed
        )
        if user is None:
            raise Refused(LOGIN_FAILED, "Connection exception - authentication failed.")
        self._user = user
        return {"responseData": {"sessionId": self.number, **ABOUT}}

    def _execute(self, statement: str) -> Message:
        self._database.note("statement", user=self._user, sql=statement)
        if impersonated := IMPERSONATE.fullmatch(statement):
            return self._impersonate(impersonated[1].upper())
        done = self._database.sql.execute(statement, user=self._user)
        return row_count(done) if isinstance(done, int) else self._result_set(done)

    def _impersonate(self, name: str) -> Message:
        if self._user != PASSWORD_USER:
            raise Refused(NOT_ALLOWED, "insufficient privileges for impersonating user")
        if name not in USERS:
            raise Refused(SYNTAX_ERROR, f"user {name} not found")
        self._user = name
        return row_count(0)

    def _result_set(self, result: ResultSet) -> Message:
        columns = [
            {"name": name, "dataType": data_type(next((row[i] for row in result.rows if row[i] is not None), None))}
            for i, name in enumerate(result.columns)
        ]
        described: Message = {"numColumns": len(columns), "numRows": len(result.rows), "columns": columns}
        if len(result.rows) < ROWS_IN_FIRST_ANSWER:
            described |= {"numRowsInMessage": len(result.rows), "data": by_column(result.rows)}
        else:
            handle = len(self._results) + 1
            self._results[handle] = result.rows
            described |= {"numRowsInMessage": 0, "resultSetHandle": handle}
        return {"responseData": {"numResults": 1, "results": [{"resultType": "resultSet", "resultSet": described}]}}

    def _fetch(self, handle: int, start: int) -> Message:
        self._database.note("fetch", user=self._user)
        rows = self._results[handle][start : start + ROWS_IN_PIECE]
        return {"responseData": {"numRows": len(rows), "data": by_column(rows)}}


def row_count(number: int) -> Message:
    return {"responseData": {"numResults": 1, "results": [{"resultType": "rowCount", "rowCount": number}]}}


def by_column(rows: list[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def data_type(value: str | float | None) -> Message:
    match value:
        case int():
            return {"type": "DECIMAL", "precision": 18, "scale": 0}
        case float():
            return {"type": "DOUBLE"}
    return {"type": "VARCHAR", "size": 2_000_000, "characterSet": "UTF8"}


async def converse(connection: ServerConnection, database: Database) -> None:
    session = Session(database)
    async for message in connection:
        was_compressed = session.is_compressed
        request = json.loads(zlib.decompress(message) if was_compressed else message)  # type: ignore[arg-type]
        answer = json.dumps(await session.answer(request))
        # The answer to the login is the last one without compression.
        await connection.send(zlib.compress(answer.encode()) if was_compressed else answer)


async def main(environ: Mapping[str, str]) -> None:
    database = Database(environ)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(environ["CERTIFICATE"], environ["KEY"])
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    answering = partial(converse, database=database)
    async with serve(answering, "127.0.0.1", int(environ["PORT"]), ssl=tls, close_timeout=0.1):
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(main(os.environ))
