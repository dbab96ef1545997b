"""Settings: every wrong value gets a message that names the variable, its origin and the remedy."""

import os
from pathlib import Path

import pytest

from mcp_holdfast.settings import Environment, Problem, Settings, load_settings, read_environment, server_name


def settings_of(**environ: str) -> Settings:
    environment, problems = read_environment(environ)
    settings, more = load_settings(environment)
    assert [*problems, *more] == []
    return settings


def problems_of(**environ: str) -> list[Problem]:
    environment, problems = read_environment(environ)
    return [*problems, *load_settings(environment)[1]]


def only_problem_of(**environ: str) -> str:
    (problem,) = problems_of(**environ)
    return str(problem)


@pytest.mark.parametrize("what", ["is unknown", "is unknown.", "is unknown.. "])
def test_a_reason_and_its_remedy_are_two_sentences(what: str) -> None:
    assert str(Problem("NAME", what, "Correct it")) == "NAME: is unknown. Correct it"


def test_an_empty_environment_does_the_main_job() -> None:
    settings = settings_of()
    assert (settings.provider, settings.backend, settings.home) == ("local", "filetree", Path("/data"))
    assert settings.base_url == "http://localhost:8000"
    assert server_name(settings, Environment({})) == "demo"


@pytest.mark.parametrize("name", ["EXA_DSN", "EXA_SAAS_ACCOUNT_ID"])
def test_exasol_is_the_server_where_one_of_its_connections_is_set(name: str) -> None:
    assert server_name(settings_of(), Environment({name: "x"})) == "exasol"


def test_a_server_that_is_named_wins_over_exasols_variables() -> None:
    assert server_name(settings_of(HOLDFAST_SERVER="demo"), Environment({"EXA_DSN": "x"})) == "demo"


def test_empty_variables_count_as_unset() -> None:
    assert settings_of(HOLDFAST_PIN="", PORT="", HOLDFAST_PIN_FILE="") == settings_of()


def test_an_empty_url_does_not_mean_files() -> None:
    for name in ("HOLDFAST_STORAGE_URL", "HOLDFAST_STORAGE_URL_FILE"):
        assert only_problem_of(**{name: ""}).startswith(f"{name}: is set to nothing")


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("EXA_MCP_STORAGE_BACKEND", "floppy", "Choose filetree"),
        ("HOLDFAST_STORAGE", "floppy", "Choose filetree"),
        ("HOLDFAST_STORAGE_KEY", "short", "shorter than 32"),
        ("HOLDFAST_STORAGE_KEY", "short", "Give the whole key"),
        ("HOLDFAST_SIGNING_KEY", "short", "Give the whole key"),
        ("HOLDFAST_STORAGE_KEY", "a b" * 20, "spaces or commas"),
        ("HOLDFAST_SIGNING_KEY", "short", "openssl rand -base64 32"),
        ("HOLDFAST_METRICS_TOKEN", "short", "shorter than 32 characters. Make one with: openssl rand -base64 32"),
        ("HOLDFAST_METRICS_TOKEN", "a token with spaces in it and long enough", "must not contain spaces"),
        ("HOLDFAST_ALLOW_ANONYMOUS", "perhaps", "Write true or false"),
        ("HOLDFAST_BASE_URL", "mcp.example.com", "is not an http or https URL"),
        ("HOLDFAST_BASE_URL", "ftp://mcp.example.com", "is not an http or https URL"),
        ("HOLDFAST_BASE_URL", "https://mcp.example.com:port", "is not an http or https URL"),
        ("HOLDFAST_BASE_URL", "https://mcp.example.com/?a=b", "must not have a query"),
        ("HOLDFAST_BASE_URL", "http://mcp.example.com", "must be https"),
        ("HOLDFAST_BASE_URL", "http://127.0.0.2:8000", "must be https"),
        ("HOLDFAST_BASE_URL", "https://a.example,http://b.example", "must be https"),
        ("HOLDFAST_BASE_URL", "https://a.example,https://A.example:443/path", "names a host twice"),
        ("OAUTH_ISSUER_URL", "nonsense", "is not an http or https URL"),
        ("HOLDFAST_PIN", "12345", "shorter than 6"),
        ("HOLDFAST_PIN", "123456", "without a pattern"),
        ("OAUTH_PIN", "000000", "without a pattern"),
        ("HOLDFAST_SIGNIN_PAGE_LIFETIME", "0", "must be at least 1s"),
        ("HOLDFAST_REFRESH_AHEAD", "2h", "must be at most 1h"),
        ("HOLDFAST_LEASE", "1", "must be at least 2s"),
        ("HOLDFAST_CODE_LIFETIME", "ten minutes", "is not a duration"),
        ("HOLDFAST_ACCESS_TOKEN_LIFETIME", "-5", "is not a duration"),
        ("HOLDFAST_REFRESH_TOKEN_LIFETIME", "1y", "is not a duration"),
        ("HOLDFAST_REFRESH_GRACE", "soon", "is not a duration"),
        ("WEB_CONCURRENCY", "0", "1 to 512"),
        ("WEB_CONCURRENCY", "two", "1 to 512"),
        ("HOLDFAST_REPLICAS", "3", "is neither true nor false. Write 1 or true, not how many there are"),
        ("PORT", "65536", "1 to 65535"),
        ("PORT", "8000.0", "is not a whole number"),
        ("FORWARDED_ALLOW_IPS", "the proxy", "addresses of your proxies"),
        ("HOLDFAST_BASE_URL", "https://:secret@mcp.example.com", "credentials"),
        ("HOLDFAST_BASE_URL", "https://x_y!.example;z", "is not an http or https URL"),
        ("HOLDFAST_BASE_URL", 'https://mcp.example.com/a"b', "is not an http or https URL"),
        ("HOLDFAST_PIN", "1     ", "shorter than 6"),
        ("HOLDFAST_PIN", "12-34-56", "without a pattern"),
        ("HOLDFAST_PIN", "not utf-8 \udcff", "is not UTF-8 text"),
        ("HOLDFAST_CIMD", "perhaps", "Choose auto, on or off"),
        ("HOLDFAST_REDIRECT_URIS", "app.example.com/callback", "no URI with a scheme"),
        ("HOLDFAST_REDIRECT_URIS", "localhost:3000/callback", "no URI with a scheme"),
        ("HOLDFAST_REDIRECT_URIS", "https://a.example/b, nonsense", "nonsense is no URI"),
        ("HOLDFAST_REDIRECT_URIS", "https://*", "must name its host"),
        ("HOLDFAST_REDIRECT_URIS", "https://*/callback", "must name its host"),
        ("HOLDFAST_REDIRECT_URIS", "https://*.com/callback", "must name its host"),
        ("HOLDFAST_REDIRECT_URIS", "https://app.example.com*", "must name its host"),
        ("HOLDFAST_REDIRECT_URIS", "https://me@app.example.com/", "must name its host"),
        ("HOLDFAST_REDIRECT_URIS", "https:///callback", "must name its host"),
        ("HOLDFAST_REDIRECT_URIS", "myapp://*", "must name its host"),
        ("HOLDFAST_REDIRECT_URIS", "myapp:///", "must name its host"),
        ("HOLDFAST_REDIRECT_URIS", "http://app.example.com/callback", "must be https"),
        ("HOLDFAST_REDIRECT_URIS", "javascript:/alert", "browsers act on"),
        ("HOLDFAST_REDIRECT_URIS", "https://app.example.com/callback?a=b", "has a query"),
        ("HOLDFAST_REDIRECT_URIS", "https://app.example.com/[a-z]", "bracket"),
        ("HOLDFAST_REDIRECT_URIS", "https://*", "as in https://app.example.com/oauth/callback"),
        ("HOLDFAST_REGISTRATIONS_PER_MINUTE", "0", "must be at least 1."),
        ("HOLDFAST_REGISTRATIONS_PER_MINUTE", "many", "is not a whole number"),
        ("HOLDFAST_REGISTRATION_LIFETIME", "0", "must be at least 1s"),
        ("LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("LOG_FORMAT", "xml", "text or json"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(variable: str, value: str, says: str) -> None:
    problem = only_problem_of(**{variable: value})
    assert problem.startswith(f"{variable}: ")
    assert says in problem


def test_redirect_uris_are_a_list_of_patterns() -> None:
    uris = (
        "https://app.example.com/oauth/*",
        "https://*.example.com:8443/callback",
        "http://myhost.localhost:*/callback",
        "http://[::1]:9/callback",
        "com.example.app:/oauth2redirect",
        "myapp://oauth/callback",
    )
    assert settings_of(HOLDFAST_REDIRECT_URIS=", ".join(uris)).redirect_uris == uris
    assert settings_of().redirect_uris == ()


def test_a_wrong_previous_key_needs_no_other_complaint() -> None:
    problem = only_problem_of(HOLDFAST_STORAGE_KEY="k" * 32, HOLDFAST_STORAGE_KEY_PREVIOUS="short")
    assert problem.startswith("HOLDFAST_STORAGE_KEY_PREVIOUS: is shorter than 32 characters. Give whole keys")


def test_a_previous_key_without_a_current_one_is_refused() -> None:
    assert "Set HOLDFAST_SIGNING_KEY" in only_problem_of(HOLDFAST_SIGNING_KEY_PREVIOUS="k" * 32)


def test_secrets_are_never_printed() -> None:
    messages = problems_of(HOLDFAST_PIN="hush", HOLDFAST_STORAGE_KEY="hushhush", HOLDFAST_SIGNING_KEY="hush hush")
    assert len(messages) == 3
    assert "hush" not in "".join(map(str, messages))
    assert "a secret" not in repr(settings_of(HOLDFAST_PIN="a secret pin"))


def test_all_problems_are_found_at_once() -> None:
    problems = problems_of(PORT="x", LOG_LEVEL="x", HOLDFAST_PIN="x", HOLDFAST_NONSENSE="x")
    assert {problem.variable for problem in problems} == {"PORT", "LOG_LEVEL", "HOLDFAST_PIN", "HOLDFAST_NONSENSE"}


def test_an_unknown_setting_is_an_error_with_a_suggestion() -> None:
    assert "Did you mean HOLDFAST_BASE_URL?" in only_problem_of(HOLDFAST_BASEURL="https://mcp.example.com")


def test_two_aliases_that_disagree_are_an_error() -> None:
    problem = only_problem_of(EXA_MCP_STORAGE_BACKEND="disk", MCP_OAUTH_STORAGE_BACKEND="filetree")
    assert "EXA_MCP_STORAGE_BACKEND and MCP_OAUTH_STORAGE_BACKEND" in problem
    assert "HOLDFAST_PIN and OAUTH_PIN" in only_problem_of(HOLDFAST_PIN="one pin", OAUTH_PIN="another pin")


def test_two_aliases_may_say_the_same() -> None:
    assert settings_of(EXA_MCP_STORAGE_BACKEND="disk", MCP_OAUTH_STORAGE_BACKEND="SQLite").backend == "disk"


@pytest.mark.parametrize(
    "variable",
    ["EXA_MCP_STORAGE_BACKEND", "HOLDFAST_STORAGE", "EXA_MCP_OAUTH_STORAGE_BACKEND", "MCP_OAUTH_STORAGE_BACKEND"],
)
def test_every_alias_of_the_backend_works(variable: str) -> None:
    assert settings_of(**{variable: "memory"}).backend == "memory"


def test_memory_is_refused_with_several_replicas() -> None:
    problem = only_problem_of(EXA_MCP_STORAGE_BACKEND="memory", HOLDFAST_REPLICAS="1")
    assert problem.startswith("HOLDFAST_REPLICAS: replicas cannot share the memory backend")
    assert "an engine (HOLDFAST_STORAGE_URL)" in problem


def test_memory_is_refused_with_several_workers() -> None:
    problem = only_problem_of(EXA_MCP_STORAGE_BACKEND="memory", WEB_CONCURRENCY="2")
    assert problem.startswith("WEB_CONCURRENCY: 2 workers cannot share the memory backend")


def test_no_login_at_all_must_be_said_twice() -> None:
    assert "HOLDFAST_ALLOW_ANONYMOUS=true" in only_problem_of(FASTMCP_SERVER_AUTH="none")
    assert settings_of(FASTMCP_SERVER_AUTH="none", HOLDFAST_ALLOW_ANONYMOUS="true").provider == "none"


@pytest.mark.parametrize(
    ("written", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("30d", 2592000)]
)
def test_durations_have_units(written: str, seconds: int) -> None:
    assert settings_of(HOLDFAST_CODE_LIFETIME=written).code_lifetime == seconds


class TestSecretsInFiles:
    def test_a_file_stands_for_its_variable(self, tmp_path: Path) -> None:
        (tmp_path / "pin").write_text("a, 'quoted' \"50%\" pin\n")
        settings = settings_of(HOLDFAST_PIN_FILE=str(tmp_path / "pin"))
        assert settings.pin is not None
        assert settings.pin.get_secret_value() == "a, 'quoted' \"50%\" pin"

    def test_payload_and_provider_secrets_may_come_from_files(self, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("p%w,d\n")
        environment, problems = read_environment({"EXA_PASSWORD_FILE": str(tmp_path / "password")})
        assert problems == []
        assert environment.values == {"EXA_PASSWORD": "p%w,d"}
        assert environment.origin("EXA_PASSWORD") == f"EXA_PASSWORD_FILE={tmp_path / 'password'}"

    @pytest.mark.parametrize("name", ["SSL_CERT_FILE", "EXA_MCP_LOG_FILE"])
    def test_other_variables_that_end_alike_are_left_alone(self, name: str) -> None:
        environment, problems = read_environment({name: "/nowhere"})
        assert problems == []
        assert environment.values == {name: "/nowhere"}

    def test_both_the_variable_and_its_file_are_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "pin").write_text("from a file")
        problem = only_problem_of(HOLDFAST_PIN="from the variable", HOLDFAST_PIN_FILE=str(tmp_path / "pin"))
        assert "both HOLDFAST_PIN and HOLDFAST_PIN_FILE are set" in problem

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        problem = only_problem_of(HOLDFAST_PIN_FILE=str(tmp_path / "nothing"))
        assert problem.startswith(f"HOLDFAST_PIN_FILE: cannot read {tmp_path / 'nothing'}: No such file")
        assert "it is not a file" in only_problem_of(HOLDFAST_PIN_FILE=str(tmp_path))

    def test_an_empty_file_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "pin").write_text("\n")
        assert "is empty" in only_problem_of(HOLDFAST_PIN_FILE=str(tmp_path / "pin"))

    def test_what_is_no_file_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert "it is not a file" in only_problem_of(HOLDFAST_PIN_FILE=str(tmp_path / "pipe"))
        assert "it is not a file" in only_problem_of(HOLDFAST_PIN_FILE="/dev/zero")

    @pytest.mark.parametrize("content", [b"x" * 70_000, b"a pin with \0"])
    def test_a_file_that_holds_no_secret_is_an_error(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "pin").write_bytes(content)
        assert "bytes or not text" in only_problem_of(HOLDFAST_PIN_FILE=str(tmp_path / "pin"))

    def test_a_binary_file_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "pin").write_bytes(b"\xff\xfe")
        assert "not UTF-8" in only_problem_of(HOLDFAST_PIN_FILE=str(tmp_path / "pin"))

    def test_a_wrong_value_from_a_file_names_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "pin").write_text("short")
        problem = only_problem_of(HOLDFAST_PIN_FILE=str(tmp_path / "pin"))
        assert problem.startswith(f"HOLDFAST_PIN (from HOLDFAST_PIN_FILE={tmp_path / 'pin'}): is shorter")
