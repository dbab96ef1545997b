"""HOLDFAST_SERVER: the server that was meant, or a message that says what is wrong."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client, FastMCP
from fastmcp.server.auth import AccessToken
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser

from mcp_holdfast.payload import load_payload
from mcp_holdfast.settings import ConfigurationError, Environment, Problem

DATABASE = {"EXA_DSN": "no-such-host.invalid:8563", "EXA_USER": "sys", "EXA_PASSWORD": "a,secret"}
SERVER = "from fastmcp import FastMCP\nmcp = FastMCP('Mine')\nother = FastMCP('Other')\ntext = 'no server'\n"


async def storage_is_well() -> dict[str, Any]:
    return {"backend": "filetree", "problem": None}


def load(server: str, **variables: str) -> FastMCP:
    return load_payload(server, Environment(variables), storage_status=storage_is_well)


def problems(server: str, **variables: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigurationError) as error:
        load(server, **variables)
    return error.value.problems


def only_problem(server: str, **variables: str) -> Problem:
    (problem,) = problems(server, **variables)
    return problem


async def call(server: FastMCP, tool: str, **arguments: Any) -> Any:
    async with Client(server) as client:
        return (await client.call_tool(tool, arguments)).data


class TestDemo:
    async def test_tells_that_nobody_is_signed_in(self) -> None:
        assert await call(load("demo"), "whoami") == {"anonymous": True}

    async def test_tells_who_is_signed_in(self) -> None:
        token = AccessToken(token="t", client_id="c", scopes=["read"], expires_at=1_800_000_000, subject="alice")
        reset = auth_context_var.set(AuthenticatedUser(token))
        try:
            answer = await call(load("demo"), "whoami")
        finally:
            auth_context_var.reset(reset)
        assert answer == {
            "anonymous": False,
            "subject": "alice",
            "client_id": "c",
            "scopes": ["read"],
            "token_expires_at": "2027-01-15T08:00:00+00:00",
        }

    async def test_tells_how_the_store_is(self) -> None:
        assert await call(load("demo"), "storage_status") == {"backend": "filetree", "problem": None}


class TestFiles:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "server.py"
        path.write_text(SERVER)
        return path

    def test_a_file_with_a_server_under_a_usual_name(self, file: Path) -> None:
        assert load(str(file)).name == "Mine"

    def test_a_file_and_a_name(self, file: Path) -> None:
        assert load(f"{file}:other").name == "Other"

    @pytest.mark.parametrize("definition", ["def make():", "async def make():"])
    def test_a_function_that_makes_the_server(self, file: Path, definition: str) -> None:
        file.write_text(f"from fastmcp import FastMCP\n{definition}\n    return FastMCP('Made')\n")
        assert load(f"{file}:make").name == "Made"

    async def test_loading_works_inside_an_event_loop_too(self, file: Path) -> None:
        assert load(str(file)).name == "Mine"

    def test_a_missing_file(self, tmp_path: Path) -> None:
        assert only_problem(f"{tmp_path}/none.py").what == f"File not found: {tmp_path}/none.py"

    def test_a_missing_name(self, file: Path) -> None:
        assert only_problem(f"{file}:nothing").what == "Server object 'nothing' not found"

    def test_a_file_without_a_server(self, file: Path) -> None:
        file.write_text("x = 1\n")
        assert f"No server object found in {file}" in only_problem(str(file)).what

    def test_an_object_that_is_no_server(self, file: Path) -> None:
        assert only_problem(f"{file}:text").what == (
            f"{file}:text is not a FastMCP server but an object of builtins.str"
        )

    def test_a_function_that_makes_something_else(self, file: Path) -> None:
        file.write_text("def make():\n    return 1\n")
        assert "must return a FastMCP server instance, got int" in only_problem(f"{file}:make").what

    def test_a_function_that_raises(self, file: Path) -> None:
        file.write_text("def make():\n    raise ValueError('no luck')\n")
        assert only_problem(f"{file}:make").what == "Failed to call factory function 'make': no luck"

    def test_a_file_that_fails_to_import_is_named_with_error_and_line(
        self, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file.write_text("x = 1\nraise RuntimeError('no luck')\n")
        problem = only_problem(str(file))
        assert problem.variable == "HOLDFAST_SERVER"
        assert problem.what == f"loading {file} fails: RuntimeError: no luck ({file}, line 2)"
        assert caplog.text == ""

    def test_the_traceback_is_shown_when_debugging(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        file.write_text("raise RuntimeError('no luck')\n")
        with caplog.at_level(logging.DEBUG, "mcp_holdfast"):
            only_problem(str(file))
        assert "Traceback" in caplog.text

    def test_a_file_that_exits(self, file: Path) -> None:
        file.write_text("raise SystemExit(3)\n")
        assert only_problem(str(file)).what == f"{file} exits when it is imported"


class TestModules:
    @pytest.fixture(autouse=True)
    def _module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        package = tmp_path / "my_package"
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "server.py").write_text(SERVER + "async def make():\n    return FastMCP('Made')\n")
        (package / "broken.py").write_text("import a_package_that_is_not_there\n")
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.startswith("my_package")]:
            monkeypatch.delitem(sys.modules, name)

    @pytest.mark.parametrize(("name", "title"), [("mcp", "Mine"), ("other", "Other"), ("make", "Made")])
    def test_a_module_and_a_name(self, name: str, title: str) -> None:
        assert load(f"my_package.server:{name}").name == title

    @pytest.mark.parametrize(
        ("server", "what"),
        [
            ("my_package.none:mcp", "there is no module my_package.none"),
            ("my_package.server:nothing", "module my_package.server has no nothing"),
            ("my_package.server:text", "my_package.server:text is not a FastMCP server but an object of builtins.str"),
            ("my_package.broken:mcp", "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"),
        ],
    )
    def test_what_cannot_be_loaded_is_named(self, server: str, what: str) -> None:
        assert what in only_problem(server).what


class TestConfigFiles:
    def test_a_fastmcp_json(self, tmp_path: Path) -> None:
        (tmp_path / "server.py").write_text(SERVER)
        source = {"path": str(tmp_path / "server.py"), "entrypoint": "other"}
        (tmp_path / "fastmcp.json").write_text(json.dumps({"source": source}))
        assert load(str(tmp_path / "fastmcp.json")).name == "Other"

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            ("{", "is not valid JSON"),
            ("{}", "is wrong at source: Field required"),
            (None, "Configuration file not found"),
        ],
    )
    def test_one_that_is_wrong_is_named(self, tmp_path: Path, content: str | None, what: str) -> None:
        path = tmp_path / "fastmcp.json"
        if content is not None:
            path.write_text(content)
        problem = only_problem(str(path))
        assert what in problem.what
        assert str(path) in problem.what


class TestUnknownNames:
    @pytest.mark.parametrize("server", ["exasl", "Demo"])
    def test_a_misspelling_is_answered_with_the_nearest(self, server: str) -> None:
        assert only_problem(server).remedy in {"Did you mean exasol?", "Did you mean demo?"}

    def test_anything_else_is_answered_with_what_there_is(self) -> None:
        assert "package.module:name" in only_problem("something").remedy


class TestExasol:
    @pytest.mark.filterwarnings("ignore:open_text is deprecated")  # exasol's use of it
    async def test_answers_without_a_database(self) -> None:
        server = load("exasol", **DATABASE)
        categories = await call(server, "list_exasol_built_in_function_categories")
        functions = await call(server, "list_exasol_built_in_functions", category="numeric")
        async with Client(server) as client:
            result = await client.call_tool("describe_exasol_built_in_function", {"name": "ABS"})
            skills = await client.list_resources()
        assert "numeric" in categories
        assert "ABS" in str(functions)
        assert "ABS" in str(result.structured_content)
        assert len(skills) == 14

    def test_has_no_login_of_its_own(self) -> None:
        provider = {"FASTMCP_SERVER_AUTH": "exa.fastmcp.server.auth.providers.jwt.JWTVerifier"}
        assert load("exasol", **DATABASE, **provider, EXA_AUTH_JWKS_URI="https://idp.example.com/jwks").auth is None

    def test_is_imported_only_where_it_is_wanted(self) -> None:
        script = "import mcp_holdfast.payload, sys; sys.exit('exasol' in sys.modules)"
        assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=False).returncode == 0

    def test_that_is_not_installed_is_refused_with_a_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "mcp_holdfast.payload.exasol", raising=False)
        monkeypatch.setitem(sys.modules, "exasol", None)
        problem = only_problem("exasol", **DATABASE)
        assert problem.variable == "HOLDFAST_SERVER"
        assert "Use the image holdfast (holdfast:base has no exasol)" in problem.remedy

    async def test_sends_no_telemetry_unless_an_endpoint_is_set(self) -> None:
        from exasol.telemetry import client as telemetry  # type: ignore[import-untyped]

        async with Client(load("exasol", **DATABASE)):
            assert not telemetry.was_setup()

    async def test_telemetry_is_on_while_the_server_runs_where_an_endpoint_is_set(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from exasol.telemetry import client as telemetry

        monkeypatch.setenv("EXASOL_TELEMETRY_ENDPOINT", "http://127.0.0.1:9/")
        async with Client(load("exasol", **DATABASE, EXASOL_TELEMETRY_ENDPOINT="http://127.0.0.1:9/")):
            assert telemetry.was_setup()
        assert not telemetry.was_setup()

    async def test_its_log_settings_hold_while_the_server_runs(self, tmp_path: Path) -> None:
        log_file = tmp_path / "logs" / "exasol.log"
        before = (logging.getLogger().level, list(logging.getLogger().handlers))
        async with Client(load("exasol", **DATABASE, EXA_MCP_LOG_FILE=str(log_file), EXA_MCP_LOG_LEVEL="INFO")):
            logging.getLogger("exasol").info("one line")
        assert "one line" in log_file.read_text()
        assert (logging.getLogger().level, list(logging.getLogger().handlers)) == before

    @pytest.mark.parametrize(
        ("variables", "missing"),
        [
            ({}, ["EXA_DSN", "EXA_USER", "EXA_PASSWORD"]),
            ({"EXA_DSN": "db:8563"}, ["EXA_USER", "EXA_PASSWORD"]),
            ({"EXA_DSN": "db:8563", "EXA_USER": "sys"}, ["EXA_PASSWORD"]),
            ({"EXA_SAAS_ACCOUNT_ID": "a"}, ["EXA_SAAS_PAT", "EXA_SAAS_DATABASE_ID"]),
        ],
    )
    def test_missing_settings_are_named(self, variables: dict[str, str], missing: list[str]) -> None:
        assert [problem.variable for problem in problems("exasol", **variables)] == missing

    @pytest.mark.parametrize(
        "variables",
        [
            {"EXA_DSN": "db:8563", "EXA_USERNAME_CLAIM": "email", "FASTMCP_SERVER_AUTH": "azure"},
            {"EXA_SAAS_ACCOUNT_ID": "a", "EXA_SAAS_PAT_HEADER": "x-api-key", "EXA_SAAS_DATABASE_NAME": "d"},
        ],
    )
    def test_connections_by_the_users_own_token_are_complete(self, variables: dict[str, str]) -> None:
        load("exasol", **variables)

    @pytest.mark.parametrize("login", [{}, {"FASTMCP_SERVER_AUTH": ""}, {"FASTMCP_SERVER_AUTH": "local"}])
    def test_the_built_in_login_has_no_tokens_for_the_database(self, login: dict[str, str]) -> None:
        problem = only_problem("exasol", EXA_DSN="db:8563", EXA_USERNAME_CLAIM="sub", **login)
        assert problem.variable == "EXA_USERNAME_CLAIM"
        assert "FASTMCP_SERVER_AUTH" in problem.remedy

    def test_the_built_in_login_can_tell_whom_to_impersonate(self) -> None:
        load("exasol", **DATABASE, EXA_USERNAME_CLAIM="sub")

    def test_without_a_login_nobody_can_be_impersonated(self) -> None:
        problem = only_problem("exasol", **DATABASE, EXA_USERNAME_CLAIM="sub", FASTMCP_SERVER_AUTH="none")
        assert (problem.variable, problem.remedy) == ("EXA_USERNAME_CLAIM", "Remove it")

    @pytest.mark.parametrize(
        ("variable", "value", "what"),
        [
            ("EXA_POOL_SIZE", "many", "is not a whole number from 1 on"),
            ("EXA_POOL_SIZE", "0", "is not a whole number from 1 on"),
            ("EXA_SSL_CERT_VALIDATION", "maybe", "is neither yes nor no"),
            ("EXA_LOG_CLAIMS", "1", "is neither yes nor no"),
            ("EXA_SSL_TRUSTED_CA", "/no/ca.pem", "there is no file or directory /no/ca.pem"),
            ("EXA_SSL_CLIENT_CERT", "/no/cert.pem", "there is no file /no/cert.pem"),
            ("EXA_SSL_PRIVATE_KEY", "/no/key.pem", "there is no file /no/key.pem"),
            (
                "EXA_MCP_SETTINGS",
                '{"enable_read_query": "perhaps"}',
                "enable_read_query Input should be",
            ),
            ("EXA_MCP_SETTINGS", "{bad}", "Invalid JSON"),
            ("EXA_MCP_SETTINGS", "/no/settings.json", "is neither JSON nor the path of a file"),
            ("EXA_MCP_SETTINGS", '{"enable_raed_query": true}', "there is no setting enable_raed_query"),
            ("EXA_MCP_SETTINGS", '{"schemas": {"enabel": true}}', "there is no setting enabel in schemas"),
            ("EXA_MCP_LOG_LEVEL", "loud", "is not a log level"),
            ("EXA_MCP_LOG_MAX_SIZE", "big", "is not a whole number from 0 on"),
            ("EXA_MCP_LOG_FORMATTER", "%(broken", "Invalid format"),
            ("EXA_MCP_LOG_FILE", "/proc/1/none.log", "cannot write /proc/1/none.log"),
            ("EXA_MCP_LOG_FILE", "/", "cannot write /"),
        ],
    )
    def test_a_wrong_setting_is_named_with_its_reason(self, variable: str, value: str, what: str) -> None:
        problem = only_problem("exasol", **DATABASE, **{variable: value})
        assert problem.variable == variable
        assert what in problem.what

    def test_an_unknown_setting_is_answered_with_the_nearest(self) -> None:
        problem = only_problem("exasol", **DATABASE, EXA_MCP_SETTINGS='{"enable_raed_query": true}')
        assert problem.remedy == "Did you mean enable_read_query?"

    def test_all_problems_are_told_at_once(self) -> None:
        found = problems("exasol", EXA_DSN="db:8563", EXA_USER="sys", EXA_POOL_SIZE="x", EXA_MCP_SETTINGS="{bad}")
        assert [problem.variable for problem in found] == ["EXA_PASSWORD", "EXA_POOL_SIZE", "EXA_MCP_SETTINGS"]

    @pytest.mark.parametrize("as_file", [True, False])
    async def test_settings_may_be_a_file_or_json_of_several_lines(self, tmp_path: Path, as_file: bool) -> None:
        text = '{\n  "enable_dialect_tools": false\n}\n'
        (tmp_path / "settings.json").write_text(text)
        given = str(tmp_path / "settings.json") if as_file else text
        async with Client(load("exasol", **DATABASE, EXA_MCP_SETTINGS=given)) as client:
            names = [tool.name for tool in await client.list_tools()]
        assert "list_exasol_built_in_functions" not in names

    def test_bucketfs_tools_need_their_settings(self) -> None:
        found = problems("exasol", **DATABASE, EXA_MCP_SETTINGS='{"enable_read_bucketfs": true}')
        assert [problem.variable for problem in found] == [
            "EXA_BUCKETFS_URL",
            "EXA_BUCKETFS_USER",
            "EXA_BUCKETFS_PASSWORD",
        ]

    def test_a_bucket_that_cannot_be_opened_is_a_problem_without_its_password(self) -> None:
        bucket = {"EXA_BUCKETFS_URL": "http://127.0.0.1:9", "EXA_BUCKETFS_USER": "w", "EXA_BUCKETFS_PASSWORD": "geheim"}
        problem = only_problem("exasol", **DATABASE, **bucket, EXA_MCP_SETTINGS='{"enable_read_bucketfs": true}')
        assert problem.variable == "EXA_BUCKETFS_URL"
        assert "geheim" not in str(problem)
