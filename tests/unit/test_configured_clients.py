"""HOLDFAST_CLIENTS: every wrong entry is told with its name and the remedy, and no secret is taken or told in plain."""

import io
import json
import sys
from typing import Any

import pytest

from mcp_holdfast.app import plan
from mcp_holdfast.auth.argon2 import hashed
from mcp_holdfast.cli.clients import hash_secret
from mcp_holdfast.settings import ConfigurationError, effective_settings, load_settings, read_environment

HASH = hashed("the secret of a connector")
URI = "https://app.example.com/callback"
PUBLIC = {"token_endpoint_auth_method": "none", "redirect_uris": [URI]}
CONNECTOR = {"client_secret_hash": HASH, "redirect_uris": [URI]}
REMEDY = 'Write it as in {"connector": {'


def problems_of(value: str) -> list[str]:
    environment, _ = read_environment({"HOLDFAST_CLIENTS": value})
    return [str(problem) for problem in load_settings(environment)[1]]


@pytest.mark.parametrize("entry", [PUBLIC, CONNECTOR, {**CONNECTOR, "client_name": "Mine", "scope": "one two"}])
def test_an_entry_is_read(entry: dict[str, Any]) -> None:
    assert problems_of(json.dumps({"connector": entry})) == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{", "is not JSON: see line 1, column 2"),
        ("[]", "is not an object from client_id to metadata"),
        ("[" * 100_000, "is nested too deeply"),
        (f"[{'9' * 5000}]", "is malformed"),
        ('{"a": {}, "a": {}}', "names a twice"),
        ('{"a": 1}', "entry 'a': is not an object"),
        ('{"a": {}}', "entry 'a': redirect_uris is missing"),
    ],
)
def test_what_is_no_object_of_entries_is_told(value: str, says: str) -> None:
    (problem,) = problems_of(value)
    assert says in problem
    assert REMEDY in problem


@pytest.mark.parametrize("client_id", ["", "with space", "https://app.example.com/client", "a:b", "x" * 129, "\x1b["])
def test_a_client_id_is_plain(client_id: str) -> None:
    (problem,) = problems_of(json.dumps({client_id: PUBLIC}))
    assert f"entry {client_id[:128]!r}: is no client_id" in problem


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("redirect_uris", [], "redirect_uris is empty"),
        ("redirect_uris", URI, "redirect_uris is not a list"),
        ("redirect_uris", [URI, 3], "redirect_uris 2 is no URI"),
        ("redirect_uris", ["nowhere"], "redirect_uris 1 is no URI"),
        ("redirect_uris", ["http://app.example.com/"], "redirect_uris 1 must be https"),
        ("redirect_uris", ["https://app.example.com/*"], "redirect_uris 1 must be exact"),
        ("redirect_uris", ["https://user:hidden@example.com/"], "redirect_uris 1 must not carry a user name"),
        ("redirect_uris", ["https://app.example.com/#a"], "redirect_uris 1 must not have a fragment"),
        ("redirect_uris", ["javascript:alert(1)"], "redirect_uris 1 must not have the scheme"),
        ("client_name", "\x1b]0;title", "client_name is not 1 to 200 printable"),
        ("client_name", 7, "client_name is not text"),
        ("scope", "one  two", "scope is not a list of scopes"),
        ("scope", "", "scope is not a list of scopes"),
        ("token_endpoint_auth_method", "private_key_jwt", "is none of none, client_secret_basic"),
        ("token_endpoint_auth_method", "none", "an auth method that never asks for it"),
        ("client_secret_hash", None, "has no client_secret_hash; a public client says"),
        ("client_secret_hash", "the hidden secret itself", "each $ of it is written $$"),
        ("client_secret_hash", HASH.replace("$argon2id", ""), "each $ of it is written $$"),
        ("client_secret_hash", HASH.replace("m=19456", "m=9999999"), "that this server does not compute"),
        ("client_secret_hash", HASH.replace("t=2", "t=0"), "that this server does not compute"),
        ("client_secret_hash", HASH[:-30], "was cut off"),
        ("client_secret_hash", HASH[:-1], "was cut off"),
        ("client_secret_hash", HASH[:-5], "was cut off"),
        ("client_secret", "the hidden secret", "client_secret is not taken in plain text"),
        ("redirect_url", URI, "redirect_url is not known; perhaps redirect_uris is meant"),
        ("unheard_of", 1, "unheard_of is not known"),
    ],
    # Each process makes another hash, and all must call a test the same.
    ids=lambda part: "hash" if "$v=19$" in str(part) else None,
)
def test_a_wrong_field_is_told_and_its_value_is_not(field: str, value: Any, says: str) -> None:
    (problem,) = problems_of(json.dumps({"connector": {**CONNECTOR, field: value}}))
    assert problem.startswith("HOLDFAST_CLIENTS: entry 'connector': ")
    assert says in problem
    assert REMEDY in problem
    assert "hidden" not in problem
    assert HASH not in problem


def test_every_wrong_entry_is_told() -> None:
    problems = problems_of(json.dumps({"one": {**PUBLIC, "scope": ""}, "two": CONNECTOR, "three": {}}))
    assert [problem.split("'")[1] for problem in problems] == ["one", "three"]


def test_the_effective_settings_name_the_clients_only() -> None:
    environment, _ = read_environment({"HOLDFAST_CLIENTS": json.dumps({"one": CONNECTOR, "two": PUBLIC})})
    settings, _ = load_settings(environment)
    told = {value.variable: value.value for value in effective_settings(settings, environment)}
    assert told["HOLDFAST_CLIENTS"] == "one, two"
    assert HASH not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"FASTMCP_SERVER_AUTH": "none", "HOLDFAST_ALLOW_ANONYMOUS": "true"}, "this login issues no tokens"),
        (
            {"FASTMCP_SERVER_AUTH": "jwt", "FASTMCP_SERVER_AUTH_JWT_JWKS_URI": "https://example.com/jwks"},
            "this login issues no tokens",
        ),
        ({}, "entry 'connector': scope names openid"),
    ],
)
def test_a_login_that_does_not_know_what_to_do_with_them_says_so(environ: dict[str, str], says: str) -> None:
    clients = json.dumps({"connector": {**CONNECTOR, "scope": "mcp openid"}})
    with pytest.raises(ConfigurationError, match=f"HOLDFAST_CLIENTS: .*{says}"):
        plan({"HOLDFAST_SERVER": "demo", "HOLDFAST_CLIENTS": clients, **environ})


class TestTheHashOfASecret:
    def test_is_printed_and_taken(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("a secret of some length\n"))
        assert hash_secret() == 0
        printed = capsys.readouterr().out.strip()
        assert problems_of(json.dumps({"connector": {**CONNECTOR, "client_secret_hash": printed}})) == []

    @pytest.mark.parametrize("secret", ["", "short", "x" * 1025, "not ASCII: ü" * 3, "two\nlines" * 5])
    def test_is_of_none_that_could_be_guessed_or_not_be_sent(
        self, secret: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(secret))
        assert hash_secret() == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "openssl rand -base64 32" in captured.err
