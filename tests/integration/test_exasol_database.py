"""exasol's tools at a database: the user who signed in arrives there, and what goes wrong there ends no session.

The servers run with the settings that docs/exasol.md shows.
"""

import asyncio
import json
import re
import ssl
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyexasol  # type: ignore[import-untyped]
import pytest
from fastmcp import Client
from fastmcp.client.client import CallToolResult
from fastmcp.client.elicitation import ElicitationHandler, ElicitResult
from fastmcp.client.transports import StreamableHttpTransport
from joserfc import jws, jwt
from joserfc.jwk import RSAKey
from mcp.types import TextContent

from harness.certificates import certify
from harness.exasol import DATABASE_USER, ExasolDatabase
from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.server import PIN, Server
from harness.waiting import HANGS_AFTER

PAGE = Path(__file__).parents[2] / "docs" / "exasol.md"
DATABASE_ERROR = "A database error occurred. Please try again later or contact your administrator"
AT_ONCE = 20.0
"""In seconds. Where it cannot be asked and nobody says so, there is no answer at all."""

MOST_TALKATIVE = {
    "LOG_LEVEL": "debug",
    "EXA_MCP_LOG_LEVEL": "DEBUG",
    "EXA_LOG_CLAIMS": "yes",
    "EXA_LOG_HTTP_HEADERS": "yes",
}

READING: dict[str, tuple[dict[str, Any], str]] = {
    "list_exasol_schemas": ({}, "what the shop sells"),
    "find_exasol_schemas": ({"keywords": ["shop"]}, "what the shop sells"),
    "list_exasol_tables_and_views": ({"schema_name": "retail"}, "DEBTORS"),
    "find_exasol_tables_and_views": ({"keywords": ["invoice"]}, "CUSTOMERS"),
    "list_exasol_custom_functions": ({"schema_name": "RETAIL"}, "DISCOUNT"),
    "find_exasol_custom_functions": ({"keywords": ["tenth"]}, "DISCOUNT"),
    "list_exasol_user_defined_functions": ({"schema_name": "RETAIL"}, "SHOUT"),
    "find_exasol_user_defined_functions": ({"keywords": ["capitals"]}, "SHOUT"),
    "list_exasol_preprocessors": ({}, "REWRITE"),
    "describe_exasol_tables_and_views": ({"schema_name": "RETAIL", "table_names": ["ORDERS", "DEBTORS"]}, "BUYER"),
    "summarize_exasol_table": ({"schema_name": "RETAIL", "table_name": "CUSTOMERS"}, "Åsa ☃"),
    "describe_exasol_custom_functions": ({"schema_name": "RETAIL", "func_names": ["DISCOUNT"]}, "DECIMAL(18,2)"),
    "describe_exasol_user_defined_functions": ({"schema_name": "RETAIL", "func_names": ["SHOUT"]}, "VARCHAR(100)"),
    "execute_exasol_query": ({"query": 'SELECT "NAME" FROM "RETAIL"."CUSTOMERS"', "row_limit": 1}, "Ada"),
    "profile_exasol_query": ({"query": 'SELECT "NAME" FROM "RETAIL"."CUSTOMERS"'}, "COMPILE / EXECUTE"),
    "list_exasol_sql_types": ({}, "maximum length"),
    "list_exasol_system_tables": ({}, "EXA_ALL_TABLES"),
    "describe_exasol_system_table": ({"table_name": "EXA_ALL_TABLES"}, "its name"),
    "list_exasol_statistics_tables": ({}, "EXA_USAGE_LAST_DAY"),
    "describe_exasol_statistics_table": ({"table_name": "EXA_USAGE_LAST_DAY"}, "how many are connected"),
    "list_exasol_keywords": ({"reserved": True, "letter": "a"}, "ALL"),
    "list_exasol_built_in_function_categories": ({}, "numeric"),
    "list_exasol_built_in_functions": ({"category": "numeric"}, "ABS"),
    "describe_exasol_built_in_function": ({"name": "ABS"}, "ABS"),
}
"""Every tool that reads, with arguments and a part of the answer."""

WRITING = {"execute_exasol_write_query", "set_exasol_preprocessor"}


def told(heading: str) -> dict[str, str]:
    """The settings that are shown under a heading."""
    block = re.search(rf"^#+ {heading}$.*?^```ini\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert block, heading
    return dict(line.split("=", 1) for line in block[1].splitlines())


@dataclass
class Site:
    """A server, and all tokens that it gave out."""

    server: Server
    tokens: list[str] = field(default_factory=list)

    def connect(self, account: str = "", asked: ElicitationHandler | None = None) -> Client[StreamableHttpTransport]:
        """Sign in at the identity provider, or by the PIN where there is none; `asked` answers what tools ask."""
        person = ProxyPerson(account, quick=True) if account else None
        with httpx.Client(base_url=self.server.url, timeout=HANGS_AFTER) as http:
            tokens = OAuthClient(http, person=person).sign_in().tokens
        self.tokens += [tokens["access_token"], tokens["refresh_token"]]
        transport = StreamableHttpTransport(f"{self.server.url}/mcp", auth=tokens["access_token"])
        return Client(transport, elicitation_handler=asked)

    def is_ready(self) -> bool:
        return httpx.get(f"{self.server.url}/readyz", timeout=HANGS_AFTER).status_code == 200


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exasol")


@pytest.fixture(scope="module")
def provider(directory: Path) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(directory / "identity-provider").start()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def database(directory: Path, provider: IdentityProvider) -> Iterator[ExasolDatabase]:
    database = ExasolDatabase(directory, provider).start()
    yield database
    database.stop()


@pytest.fixture(scope="module")
def here(directory: Path, database: ExasolDatabase) -> dict[str, str]:
    """What the settings are on this machine."""
    password = directory / "password"
    password.write_text(database.password)
    return {
        "EXA_DSN": database.dsn,
        "EXA_USER": DATABASE_USER,
        "EXA_PASSWORD_FILE": str(password),
        "EXA_SSL_TRUSTED_CA": str(database.authority),
    }


def site(name: str, directory: Path, here: dict[str, str], settings: dict[str, str]) -> Site:
    """Prepare a server with those settings that are shown, where they are others here."""
    shown = settings | told("Which tools there are") | MOST_TALKATIVE | {"HOLDFAST_SERVER": "exasol"}
    environment = {name: here.get(name, value) for name, value in shown.items()}
    return Site(Server(directory / name, directory / f"{name}.log", **environment))


@pytest.fixture(scope="module")
def for_all(directory: Path, here: dict[str, str]) -> Iterator[Site]:
    """One database user for everybody, and the built-in login."""
    one = site("for-all", directory, here, told("One database user for all"))
    one.server.start()
    yield one
    one.server.stop()


@pytest.fixture(scope="module")
def by_token(directory: Path, here: dict[str, str], provider: IdentityProvider) -> Iterator[Site]:
    """The database gets each user's token from the identity provider."""
    one = site("by-token", directory, here, told("Each user by a token"))
    one.server.environment |= proxy_environment(provider, one.server.url)
    one.server.start()
    yield one
    one.server.stop()


@pytest.fixture(scope="module")
def impersonated(directory: Path, here: dict[str, str], provider: IdentityProvider) -> Iterator[Site]:
    """One database user impersonates each user; without MCP sessions."""
    one = site("impersonated", directory, here, told("Each user impersonated") | {"HOLDFAST_REPLICAS": "true"})
    one.server.environment |= proxy_environment(provider, one.server.url)
    one.server.start()
    yield one
    one.server.stop()


@pytest.fixture(params=["by_token", "impersonated"])
def personal(request: pytest.FixtureRequest) -> Site:
    """Either way by which the user arrives."""
    site: Site = request.getfixturevalue(request.param)
    return site


def text_of(result: CallToolResult) -> str:
    return "".join(content.text for content in result.content if isinstance(content, TextContent))


async def failure(client: Client[Any], tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments, raise_on_error=False)
    assert result.is_error, result
    return text_of(result)


async def rows(client: Client[Any], query: str) -> list[list[Any]]:
    result = await client.call_tool("execute_exasol_query", {"query": query})
    found: list[list[Any]] = json.loads(text_of(result))["rows"]
    return found


async def test_every_tool_that_reads_does(for_all: Site, database: ExasolDatabase) -> None:
    async with for_all.connect() as client:
        assert {tool.name for tool in await client.list_tools()} == READING.keys() | WRITING
        for tool, (arguments, part) in READING.items():
            result = await client.call_tool(tool, arguments)
            assert part in text_of(result), tool
    assert database.users_of("") == {DATABASE_USER}


async def test_a_large_result_arrives_whole(for_all: Site, database: ExasolDatabase) -> None:
    fetches = database.fetches()
    async with for_all.connect() as client:
        found = await rows(client, 'SELECT "ID" FROM "RETAIL"."ORDERS" ORDER BY "ID"')
    assert found == [[number] for number in range(1, 2501)]
    assert database.fetches() - fetches == 3
    assert all(login["is_compressed"] for login in database.logins())


async def test_each_statement_runs_as_the_user_who_asked(personal: Site, database: ExasolDatabase) -> None:
    async with personal.connect("ada") as ada, personal.connect("grace") as grace:
        asking = [
            rows(client, f'SELECT CURRENT_USER AS "WHO", \'asked by {name}\' AS "WHAT"')
            for client, name in [(ada, "ada"), (grace, "grace")] * 5
        ]
        answers = await asyncio.gather(*asking)
    assert answers == [[["ADA", "asked by ada"]], [["GRACE", "asked by grace"]]] * 5
    assert database.users_of("asked by ada") == {"ADA"}
    assert database.users_of("asked by grace") == {"GRACE"}


async def test_the_database_gets_the_identity_providers_token_and_none_of_ours(
    by_token: Site, database: ExasolDatabase, provider: IdentityProvider
) -> None:
    before = len(database.logins())
    database.restart()
    async with by_token.connect("ada") as client:
        await client.call_tool("list_exasol_schemas")
    (login,) = database.logins()[before:]
    assert (login["command"], login["user"]) == ("loginToken", "ADA")
    claims = json.loads(jws.extract_compact(login["credential"].encode()).payload)
    assert (claims["iss"], claims["sub"]) == (provider.issuer, "ada")
    assert login["credential"] not in by_token.tokens


async def test_whom_the_database_does_not_know_gets_nobody_elses_rights(
    personal: Site, database: ExasolDatabase
) -> None:
    async with personal.connect("mallory") as client:
        answer = await failure(client, "execute_exasol_query", query="SELECT 'asked by mallory' AS \"WHAT\"")
        assert DATABASE_ERROR in answer or "user MALLORY not found" in answer
        assert await client.call_tool("list_exasol_built_in_function_categories")
    assert database.users_of("asked by mallory") == set()
    assert personal.is_ready()


class TestWriting:
    """Before it writes, exasol asks the person, who sees the statement."""

    STATEMENT = 'INSERT INTO "RETAIL"."NOTES" VALUES (\'{}\')'

    async def test_what_is_accepted_runs_as_its_user(self, by_token: Site, database: ExasolDatabase) -> None:
        statement = self.STATEMENT.format("accepted")

        async def accept(*_: Any) -> ElicitResult[Any]:
            return ElicitResult(action="accept", content={"sql": statement})

        async with by_token.connect("ada", accept) as client:
            await client.call_tool("execute_exasol_write_query", {"query": statement})
            assert ["accepted"] in await rows(client, 'SELECT "WRITTEN" FROM "RETAIL"."NOTES"')
        assert database.users_of(statement) == {"ADA"}

    async def test_what_the_person_changed_runs_instead(self, by_token: Site, database: ExasolDatabase) -> None:
        statement, better = self.STATEMENT.format("hasty"), self.STATEMENT.format("considered")

        async def change(*_: Any) -> ElicitResult[Any]:
            return ElicitResult(action="accept", content={"sql": better})

        async with by_token.connect("ada", change) as client:
            result = await client.call_tool("execute_exasol_write_query", {"query": statement})
            assert result.data == better
        assert (database.users_of("hasty"), database.users_of("considered")) == (set(), {"ADA"})

    @pytest.mark.parametrize("action", ["decline", "cancel"])
    async def test_what_is_not_accepted_does_not_run(
        self, by_token: Site, database: ExasolDatabase, action: Any
    ) -> None:
        async def refuse(*_: Any) -> ElicitResult[Any]:
            return ElicitResult(action=action)

        async with by_token.connect("ada", refuse) as client:
            answer = await failure(client, "execute_exasol_write_query", query=self.STATEMENT.format(action))
        assert "by the user" in answer
        assert database.users_of(action) == set()

    async def test_a_client_that_cannot_ask_writes_nothing(self, by_token: Site, database: ExasolDatabase) -> None:
        async with by_token.connect("ada") as client:
            assert await failure(client, "execute_exasol_write_query", query=self.STATEMENT.format("unasked"))
        assert database.users_of("unasked") == set()

    async def test_without_sessions_it_says_why_it_cannot_ask(
        self, impersonated: Site, database: ExasolDatabase
    ) -> None:
        async def accept(*_: Any) -> ElicitResult[Any]:
            return ElicitResult(action="accept", content={"sql": self.STATEMENT.format("alone")})

        async with impersonated.connect("ada", accept) as client, asyncio.timeout(AT_ONCE):
            answer = await failure(client, "execute_exasol_write_query", query=self.STATEMENT.format("alone"))
        assert "cannot ask its client anything" in answer
        assert "HOLDFAST_REPLICAS" in answer
        assert database.users_of("alone") == set()


@pytest.mark.parametrize("ends", [ExasolDatabase.kill, ExasolDatabase.terminate], ids=["killed", "stopped"])
async def test_a_database_that_is_away_fails_the_call_and_not_the_session(
    for_all: Site, database: ExasolDatabase, ends: Any
) -> None:
    async with for_all.connect() as client:
        await client.call_tool("list_exasol_schemas")
        ends(database)
        database.wait_for_exit()
        try:
            for _ in range(2):
                assert DATABASE_ERROR in await failure(client, "list_exasol_schemas")
            assert for_all.is_ready()
            assert await client.call_tool("list_exasol_built_in_function_categories")
        finally:
            database.start()
        await client.call_tool("list_exasol_schemas")


@pytest.mark.parametrize("ends", [ExasolDatabase.kill, ExasolDatabase.terminate], ids=["killed", "stopped"])
async def test_a_restart_of_the_database_is_not_noticed(by_token: Site, database: ExasolDatabase, ends: Any) -> None:
    async with by_token.connect("ada") as client:
        await client.call_tool("list_exasol_schemas")
        ends(database)
        database.wait_for_exit()
        database.start()
        await client.call_tool("list_exasol_schemas")


@pytest.mark.parametrize("wrong", ["password", "authority", "host"])
async def test_a_login_at_the_database_that_fails_is_told_in_the_log(
    for_all: Site, database: ExasolDatabase, directory: Path, wrong: str
) -> None:
    host, authority, reason = {
        "password": ("localhost", database.authority, "authentication failed"),
        "authority": ("localhost", directory / "another-authority.pem", "certificate verify failed"),
        "host": ("elsewhere.example", database.authority, "not valid for 'localhost'"),
    }[wrong]
    certificate, key = certify(host, directory / f"another-{wrong}", authority)
    password = "another" if wrong == "password" else database.password
    already = len(for_all.server.output())
    async with for_all.connect() as client:
        with database.changed(CERTIFICATE=str(certificate), KEY=str(key), PASSWORD=password):
            assert DATABASE_ERROR in await failure(client, "list_exasol_schemas")
            assert reason in for_all.server.output()[already:].replace("\\'", "'")
            assert for_all.is_ready()
        await client.call_tool("list_exasol_schemas")


async def test_a_token_that_the_database_refuses_ends_no_session(by_token: Site, database: ExasolDatabase) -> None:
    async with by_token.connect("ada") as client:
        with database.changed(ISSUER="https://elsewhere.example"):
            assert DATABASE_ERROR in await failure(client, "list_exasol_schemas")
            assert by_token.is_ready()
        await client.call_tool("list_exasol_schemas")


def test_the_stand_in_takes_no_token_with_another_signature(
    database: ExasolDatabase, provider: IdentityProvider
) -> None:
    key = RSAKey.generate_key(2048, {"kid": "first"})
    claims = {"iss": provider.issuer, "sub": "ada", "exp": int(time.time()) + 60}
    forged = jwt.encode({"alg": "RS256", "kid": "first"}, claims, key)
    tls = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": str(database.authority)}
    with pytest.raises(pyexasol.ExaRequestError, match="authentication failed"):
        pyexasol.connect(dsn=database.dsn, access_token=forged, websocket_sslopt=tls)


def test_no_log_holds_a_token_or_a_password(
    for_all: Site, by_token: Site, impersonated: Site, database: ExasolDatabase, provider: IdentityProvider
) -> None:
    """Those of all tests before this one, with everything in the log that exasol can put there."""
    sites = [for_all, by_token, impersonated]
    tokens = {token for site in sites for token in site.tokens}
    passed_on = {login["credential"] for login in database.logins()} - {""}
    assert passed_on
    issued = provider.issued() - {"current", provider.client_id}  # names of records that are no secrets
    secrets = tokens | passed_on | issued | {database.password, PIN, provider.client_secret}
    logs = "".join(site.server.output() for site in sites)
    assert "oauth-claims" in logs
    assert "http-headers" in logs
    assert [secret for secret in secrets if secret in logs] == []


def test_every_variable_that_is_told_is_exasols() -> None:
    package = Path(sysconfig.get_path("purelib")) / "exasol" / "ai" / "mcp"
    source = "".join(file.read_text() for file in package.rglob("*.py"))
    shown = {name.removesuffix("_FILE") for name in re.findall(r"\bEXA_\w*[A-Z]\b", PAGE.read_text())}
    assert [name for name in sorted(shown) if f'"{name}"' not in source] == []
