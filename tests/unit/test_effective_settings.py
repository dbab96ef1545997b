"""What `holdfast check` tells of each setting: its value without secrets, and where it came from."""

from pathlib import Path

import pytest

from mcp_holdfast.settings import Settings, effective_settings, load_settings, read_environment, variables_of

SECRET = "geheim-geheim-geheim-geheim-geheim"


def effective(**environ: str) -> dict[str, tuple[str, str]]:
    environment, problems = read_environment(environ)
    settings, more = load_settings(environment)
    assert [*problems, *more] == []
    return {row.variable: (row.value, row.source) for row in effective_settings(settings, environment)}


def test_every_setting_is_told_once() -> None:
    assert set(effective()) == {variables_of(setting)[0] for setting in Settings.model_fields.values()}


@pytest.mark.parametrize(
    ("variable", "value", "source"),
    [
        ("HOLDFAST_SERVER", "demo", "default"),
        ("EXA_MCP_STORAGE_BACKEND", "filetree", "default"),
        ("HOLDFAST_BASE_URL", "http://localhost:8000", "default"),
        ("HOLDFAST_STORAGE_KEY", "***", "generated, in /data/keys/storage.key"),
        ("HOLDFAST_SIGNING_KEY", "***", "generated, in /data/keys/signing.key"),
        ("HOLDFAST_PIN", "***", "generated, shown once at the first start"),
        ("HOLDFAST_REFRESH_TOKEN_LIFETIME", "30d", "default"),
        ("HOLDFAST_REFRESH_GRACE", "1m", "default"),
        ("HOLDFAST_TOKEN_CACHE", "10s", "default"),
        ("HOLDFAST_STORAGE_WAIT", "0", "default"),
        ("HOLDFAST_ACCESS_TOKEN_LIFETIME", "", "default"),
        ("HOLDFAST_REPLICAS", "false", "default"),
    ],
)
def test_a_default_is_told_as_it_works(variable: str, value: str, source: str) -> None:
    assert effective()[variable] == (value, source)


def test_what_was_set_is_told_under_the_name_that_was_used(tmp_path: Path) -> None:
    (tmp_path / "pin").write_text(SECRET)
    (tmp_path / "key").write_text(SECRET)
    found = effective(
        HOLDFAST_ACCESS_TOKEN_LIFETIME="5400",
        OAUTH_PIN_FILE=str(tmp_path / "pin"),
        HOLDFAST_SIGNING_KEY_FILE=str(tmp_path / "key"),
        HOLDFAST_STORAGE_KEY=SECRET,
        HOLDFAST_STORAGE_KEY_PREVIOUS=f"{SECRET}-2 {SECRET}-3",
        HOLDFAST_REDIRECT_URIS="https://a.example.com/cb,https://b.example.com/cb",
        EXA_DSN="db:8563",
    )
    assert found["HOLDFAST_ACCESS_TOKEN_LIFETIME"] == ("90m", "environment")
    assert found["OAUTH_PIN"] == ("***", f"OAUTH_PIN_FILE={tmp_path}/pin")
    assert found["HOLDFAST_SIGNING_KEY"] == ("***", f"HOLDFAST_SIGNING_KEY_FILE={tmp_path}/key")
    assert found["HOLDFAST_STORAGE_KEY"] == ("***", "environment")
    assert found["HOLDFAST_STORAGE_KEY_PREVIOUS"] == ("***, ***", "environment")
    assert found["HOLDFAST_REDIRECT_URIS"] == ("https://a.example.com/cb, https://b.example.com/cb", "environment")
    assert found["HOLDFAST_SERVER"] == ("exasol", "default")
    assert "HOLDFAST_PIN" not in found
    assert "geheim" not in str(found)


def test_an_engines_url_is_told_without_its_credentials() -> None:
    keys = {"HOLDFAST_STORAGE_KEY": SECRET, "HOLDFAST_SIGNING_KEY": SECRET}
    url = "rediss://user:geheim@redis.example.com:6379/0?password=geheim"
    found = effective(HOLDFAST_STORAGE_URL=url, **keys)
    assert found["HOLDFAST_STORAGE_URL"] == ("rediss://redis.example.com:6379/0", "environment")
    assert found["EXA_MCP_STORAGE_BACKEND"] == ("redis", "HOLDFAST_STORAGE_URL")
    host, password = "EXA_MCP_OAUTH_REDIS_HOST", "EXA_MCP_OAUTH_REDIS_PASSWORD"
    found = effective(EXA_MCP_STORAGE_BACKEND="redis", **{host: "one", password: "geheim"}, **keys)
    assert found["HOLDFAST_STORAGE_URL"] == ("redis://one:6379/0", f"{host}, {password}")
    assert found["EXA_MCP_STORAGE_BACKEND"] == ("redis", "environment")


def test_in_memory_the_keys_live_as_long_as_the_server() -> None:
    found = effective(EXA_MCP_STORAGE_BACKEND="memory")
    assert found["HOLDFAST_STORAGE_KEY"] == ("***", "generated at each start")


def test_a_login_without_a_pin_has_none() -> None:
    assert effective(FASTMCP_SERVER_AUTH="github")["HOLDFAST_PIN"] == ("", "default")
