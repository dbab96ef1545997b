"""Which engine a server uses: by one URL, or by the variables that exasol documents."""

import re
from pathlib import Path

import pytest

from mcp_holdfast.app import plan
from mcp_holdfast.settings import ConfigurationError
from mcp_holdfast.settings.engine_urls import EXAMPLES, shown, url_of_exasol
from mcp_holdfast.storage.backends import EngineProblem, open_engine
from unit.test_settings import only_problem_of, problems_of, settings_of

KEYS = {"HOLDFAST_STORAGE_KEY": "k" * 32, "HOLDFAST_SIGNING_KEY": "s" * 32}


@pytest.mark.parametrize(
    ("url", "backend"),
    [
        *((example, backend) for backend, example in EXAMPLES.items()),
        ("redis+cluster://one:7000,two:7000", "redis"),
        ("valkeys+sentinel://one,two/mymaster/0", "valkey"),
        ("postgres://localhost/db", "postgresql"),
        ("mongodb://localhost", "mongodb"),
    ],
)
def test_a_url_alone_says_which_backend_it_is_for(url: str, backend: str) -> None:
    settings = settings_of(HOLDFAST_STORAGE_URL=url, **KEYS)
    assert settings.backend == backend
    assert settings_of(HOLDFAST_STORAGE=backend, HOLDFAST_STORAGE_URL=url, **KEYS) == settings
    assert url not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "variable", "says"),
    [
        ({"HOLDFAST_STORAGE_URL": "localhost:6379"}, "HOLDFAST_STORAGE_URL", "does not begin with one of redis"),
        ({"HOLDFAST_STORAGE_URL": "mysql://h/db"}, "HOLDFAST_STORAGE_URL", "does not begin with one of redis"),
        ({"HOLDFAST_STORAGE": "redis"}, "HOLDFAST_STORAGE_URL", "is not set, and redis is reached by it"),
        (
            {"HOLDFAST_STORAGE": "redis", "HOLDFAST_STORAGE_URL": "postgresql://h/db"},
            "HOLDFAST_STORAGE_URL",
            "begins with postgresql, but HOLDFAST_STORAGE chooses redis. Remove HOLDFAST_STORAGE, or correct the URL",
        ),
        (
            {"EXA_MCP_STORAGE_BACKEND": "redis", "HOLDFAST_STORAGE_URL": "postgresql://h/db"},
            "HOLDFAST_STORAGE_URL",
            "Remove EXA_MCP_STORAGE_BACKEND, or",
        ),
        (
            {"EXA_MCP_OAUTH_STORAGE_BACKEND": "redis", "EXA_MCP_OAUTH_REDIS_URL": "postgresql://h/db"},
            "EXA_MCP_OAUTH_REDIS_URL",
            "begins with postgresql, but EXA_MCP_OAUTH_STORAGE_BACKEND chooses redis",
        ),
        (
            {"HOLDFAST_STORAGE": "filetree", "HOLDFAST_STORAGE_URL": "redis://h"},
            "HOLDFAST_STORAGE_URL",
            "names an engine, but HOLDFAST_STORAGE chooses filetree. Remove HOLDFAST_STORAGE, or",
        ),
        (
            {"EXA_MCP_OAUTH_STORAGE_BACKEND": "disk", "HOLDFAST_STORAGE_URL": "redis://h"},
            "HOLDFAST_STORAGE_URL",
            "Remove EXA_MCP_OAUTH_STORAGE_BACKEND, or",
        ),
        (
            {"HOLDFAST_STORAGE_URL": "redis://h", "EXA_MCP_OAUTH_REDIS_HOST": "h"},
            "HOLDFAST_STORAGE_URL",
            "is set, and so is EXA_MCP_OAUTH_REDIS_HOST",
        ),
        (
            {"HOLDFAST_STORAGE": "redis", "EXA_MCP_OAUTH_REDIS_URL": "h:6379"},
            "EXA_MCP_OAUTH_REDIS_URL",
            "does not begin with one of redis",
        ),
        ({"HOLDFAST_STORAGE": "mongodb", "EXA_MCP_OAUTH_MONGODB_DB_NAME": "d"}, "HOLDFAST_STORAGE_URL", "is not set"),
        ({"HOLDFAST_STORAGE_URL": "redis://h", "HOLDFAST_STORAGE_WAIT": "soon"}, "HOLDFAST_STORAGE_WAIT", "duration"),
        ({"HOLDFAST_STORAGE_URL": "redis://h", "HOLDFAST_STORAGE_WAIT": "2h"}, "HOLDFAST_STORAGE_WAIT", "at most 1h"),
        ({"HOLDFAST_STORAGE": "floppy", "HOLDFAST_STORAGE_URL": "redis://h"}, "HOLDFAST_STORAGE", "Choose filetree"),
    ],
)
def test_what_contradicts_itself_is_an_error(environ: dict[str, str], variable: str, says: str) -> None:
    problem = only_problem_of(**environ, **KEYS)
    assert problem.startswith(f"{variable}: ")
    assert says in problem


def test_an_engine_needs_keys_that_are_given() -> None:
    problems = problems_of(HOLDFAST_STORAGE_URL="redis://localhost")
    assert [problem.variable for problem in problems] == ["HOLDFAST_STORAGE_KEY", "HOLDFAST_SIGNING_KEY"]
    assert all("Give the key of the store that is there" in problem.remedy for problem in problems)


def test_a_short_key_is_not_said_to_have_a_default() -> None:
    problem = only_problem_of(**{"HOLDFAST_STORAGE_URL": "redis://h", **KEYS, "HOLDFAST_STORAGE_KEY": "short"})
    assert "Give the whole key" in problem
    assert "default" not in problem


@pytest.mark.parametrize("name", ["HOLDFAST_STORAGE_KEY", "HOLDFAST_SIGNING_KEY", "HOLDFAST_STORAGE_URL"])
@pytest.mark.parametrize("content", [None, "", b"\xff"], ids=["missing", "empty", "not text"])
def test_what_cannot_be_read_is_not_called_unset(name: str, content: str | bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    environ = {"HOLDFAST_STORAGE": "redis", "HOLDFAST_STORAGE_URL": "redis://h", **KEYS, f"{name}_FILE": str(file)}
    del environ[name]
    assert only_problem_of(**environ).startswith(f"{name}_FILE: ")


def test_a_payloads_secret_that_cannot_be_read_is_not_called_unset() -> None:
    exasol = {"EXA_DSN": "db:8563", "EXA_USER": "sys", "EXA_PASSWORD_FILE": "/does-not-exist"}
    with pytest.raises(ConfigurationError) as raised:
        plan({"HOLDFAST_STORAGE": "memory", **exasol})
    assert [problem.variable for problem in raised.value.problems] == ["EXA_PASSWORD_FILE"]


@pytest.mark.parametrize("url", [{}, {"HOLDFAST_STORAGE_URL": "localhost:5432"}], ids=["missing", "wrong"])
def test_a_url_that_is_missing_or_wrong_is_one_problem(url: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        plan({"HOLDFAST_STORAGE": "postgresql", **url, **KEYS})
    assert [problem.variable for problem in raised.value.problems] == ["HOLDFAST_STORAGE_URL"]


def test_a_wrong_url_is_not_printed() -> None:
    assert "secret" not in only_problem_of(HOLDFAST_STORAGE_URL="mysql://user:secret@host", **KEYS)


@pytest.mark.parametrize(
    ("backend", "given", "url"),
    [
        ("redis", {"REDIS_URL": "rediss://h/1"}, "rediss://h/1"),
        ("redis", {"REDIS_HOST": "h"}, "redis://h:6379/0"),
        ("redis", {"REDIS_PASSWORD": "p@s/s"}, "redis://:p%40s%2Fs@localhost:6379/0"),
        ("redis", {"REDIS_HOST": "::1", "REDIS_PORT": "7", "REDIS_DB": "2"}, "redis://[::1]:7/2"),
        ("dynamodb", {"DYNAMODB_TABLE_NAME": "t"}, "dynamodb://t"),
        (
            "dynamodb",
            {"DYNAMODB_TABLE_NAME": "t", "DYNAMODB_REGION_NAME": "r", "DYNAMODB_ENDPOINT_URL": "http://h:1"},
            "dynamodb://t?region=r&endpoint_url=http%3A%2F%2Fh%3A1",
        ),
        (
            "dynamodb",
            {
                "DYNAMODB_TABLE_NAME": "t",
                "DYNAMODB_AWS_ACCESS_KEY_ID": "a",
                "DYNAMODB_AWS_SECRET_ACCESS_KEY": "s/+",
                "DYNAMODB_AWS_SESSION_TOKEN": "t=",
            },
            "dynamodb://a:s%2F%2B@t?session_token=t%3D",
        ),
        ("dynamodb", {"DYNAMODB_REGION_NAME": "r"}, None),
        ("mongodb", {"MONGODB_URL": "mongodb://h/d?w=1"}, "mongodb://h/d?w=1"),
        ("mongodb", {"MONGODB_URL": "mongodb://h", "MONGODB_DB_NAME": "d"}, "mongodb://h/d"),
        (
            "mongodb",
            {"MONGODB_URL": "mongodb://u:p@h/users", "MONGODB_DB_NAME": "d"},
            "mongodb://u:p@h/d?authSource=users",
        ),
        *(
            (
                "mongodb",
                {"MONGODB_URL": f"mongodb://u:1{character}2@h/d", "MONGODB_DB_NAME": "e"},
                f"mongodb://u:1{character}2@h/d",
            )
            for character in "/?"
        ),
        *(
            (
                "mongodb",
                {"MONGODB_URL": f"mongodb://u:1{character}2@h/d?w=1", "MONGODB_DB_NAME": "e"},
                f"mongodb://u:1{character}2@h/e?w=1&authSource=d",
            )
            for character in "#["
        ),
        ("mongodb", {}, None),
    ],
)
def test_exasols_variables_mean_what_they_mean_there(backend: str, given: dict[str, str], url: str | None) -> None:
    values = {f"EXA_MCP_OAUTH_{name}": value for name, value in given.items()}
    assert url_of_exasol(backend, values) == url
    if url is not None:
        settings = settings_of(EXA_MCP_OAUTH_STORAGE_BACKEND=backend, **values, **KEYS)
        assert settings.storage_url is not None
        assert settings.storage_url.get_secret_value() == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://h/db?pool_size=x", "pool_size=x in the URL is not a whole number, 1 to"),
        ("postgresql://h/db?statement_cache_size=x", "statement_cache_size=x in the URL is not a whole number, 0 to"),
        ("dynamodb://table?region=Europe!", "region=Europe! in the URL is not a region's name"),
        ("dynamodb://table?endpoint_url=h", "endpoint_url=h in the URL is not an http or https URL"),
    ],
)
def test_a_wrong_parameter_says_what_it_can_be(url: str, says: str) -> None:
    with pytest.raises(EngineProblem, match=re.escape(says)):
        open_engine(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://user:secret@h:1/0?password=secret", "redis://h:1/0"),
        ("rediss+sentinel://:secret@one:1,[::1]:2/mymaster/0", "rediss+sentinel://one:1,[::1]:2/mymaster/0"),
        ("redis://u:s:ecr[et@h", "redis://h"),
        ("postgresql://h/db?password=secret", "postgresql://h/db"),
        ("POSTGRESQL://%2Frun%2Fpostgresql/db", "postgresql://%2Frun%2Fpostgresql/db"),
        ("postgresql:///db?host=/run", "postgresql:///db"),
        ("dynamodb://key:secret@a_table.of-ours?region=r", "dynamodb://a_table.of-ours"),
        ("mongodb+srv://u:secret@h/db\n", "mongodb+srv://h/db"),
    ],
)
def test_a_url_is_shown_without_what_is_secret(url: str, told: str) -> None:
    assert shown(url) == told


@pytest.mark.parametrize("scheme", ["redis", "valkeys+sentinel", "postgresql", "dynamodb", "mongodb"])
@pytest.mark.parametrize(
    "rest",
    [
        *(f"user:12{character}secret@h:1/0" for character in "/?#@["),
        *(f"secret{character}secret@h/db" for character in "/?#@"),
        *(
            "user:secret",
            ":secret",
            ":secret/0",
            "h:secret",
            "h/db#secret",
            "h/a secret",
            "h/a\nsecret",
            "[secret",
            "h:123456",
        ),
        *("user:12?p=secret@h", "user:12?a/secret@h:1", "user:12#a?secret@h", "user:12/a@h#secret"),
    ],
)
def test_of_a_url_that_cannot_be_told_apart_nothing_is_shown(scheme: str, rest: str) -> None:
    told = shown(f"{scheme}://{rest}")
    assert told in {f"{scheme}://...", f"{scheme}://h:1/0", f"{scheme}://h/db"}


@pytest.mark.parametrize(
    "text", ["", "secret", "://secret", "mysql://user:secret@h", "redis:/secret", "http://[secret"]
)
def test_of_what_is_no_url_of_an_engine_nothing_is_shown(text: str) -> None:
    assert shown(text) == "..."
