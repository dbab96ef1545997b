"""HOLDFAST_TOKENS: every wrong entry is told with its name and the remedy, and no token is taken or told in plain."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastmcp.server.auth.auth import AccessToken, TokenVerifier

from harness.faulty_store import FaultyStore
from mcp_holdfast import outage
from mcp_holdfast.app import plan
from mcp_holdfast.auth.machine_tokens import TOKEN, Revocations, hash_of
from mcp_holdfast.auth.static_tokens import StaticTokens, accept_static_tokens
from mcp_holdfast.cli.tokens import create
from mcp_holdfast.settings import ConfigurationError, Settings, effective_settings, load_settings, read_environment
from mcp_holdfast.storage.deadlines import PromptStore, StoreUnavailable

HASH = hash_of("holdfast_" + "0" * 64)
ENTRY = {"token_hash": HASH, "expires_at": "2999-01-01"}
REMEDY = 'Write it as in {"ci": {'


def load(value: str) -> tuple[Settings, list[str]]:
    environment, _ = read_environment({"HOLDFAST_TOKENS": value})
    settings, problems = load_settings(environment)
    return settings, [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2030-01-01", 1893456000),
        ("2030-01-01T00:00:00Z", 1893456000),
        ("2030-01-01T01:00:00+01:00", 1893456000),
        ("never", None),
    ],
)
def test_an_expiry_is_a_day_a_moment_or_never(written: str, seconds: float | None) -> None:
    settings, problems = load(json.dumps({"ci": {**ENTRY, "expires_at": written}}))
    assert problems == []
    assert settings.tokens["ci"].expiry == seconds


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("{", "is not JSON: see line 1, column 2"),
        ("[]", "is not an object from name to token"),
        ('{"a": {}, "a": {}}', "names a twice"),
        ('{"a": 1}', "entry 'a': is not an object"),
        (json.dumps({"one": ENTRY, "two": ENTRY}), "has the same token_hash in one and two"),
        (json.dumps({"": ENTRY}), "is no name of a token"),
        (json.dumps({"a b": ENTRY}), "is no name of a token"),
        (json.dumps({"../x": ENTRY}), "is no name of a token"),
    ],
)
def test_what_is_no_object_of_entries_is_told(value: str, says: str) -> None:
    _, (problem, *_) = load(value)
    assert says in problem
    assert REMEDY in problem


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("token_hash", None, "is not text"),
        ("token_hash", "hidden", "token_hash is not what 'holdfast tokens create' prints"),
        ("token_hash", HASH.removeprefix("sha256:"), "token_hash is not what"),
        ("token_hash", HASH.upper(), "token_hash is not what"),
        ("token_hash", HASH[:-1], "token_hash is not what"),
        ("expires_at", None, "expires_at is neither a date"),
        ("expires_at", "", "expires_at is neither a date"),
        ("expires_at", "90d", "expires_at is neither a date"),
        ("expires_at", 1893456000, "expires_at is neither a date"),
        ("expires_at", "2030-01-01T00:00:00", "expires_at is neither a date"),
        ("expires_at", "2030-13-01", "expires_at is neither a date"),
        ("scope", "one  two", "scope is not a list of scopes"),
        ("claims", "hidden", "claims is not an object"),
        ("token", "hidden", "token is not taken in plain text; give token_hash"),
        ("expires", "2030-01-01", "expires is not known; perhaps expires_at is meant"),
    ],
)
def test_a_wrong_field_is_told_and_its_value_is_not(field: str, value: Any, says: str) -> None:
    _, (problem,) = load(json.dumps({"ci": {**ENTRY, field: value}}))
    assert problem.startswith("HOLDFAST_TOKENS: entry 'ci': ")
    assert says in problem
    assert REMEDY in problem
    assert "hidden" not in problem
    assert HASH not in problem


@pytest.mark.parametrize("field", ENTRY)
def test_a_hash_and_an_expiry_are_needed(field: str) -> None:
    _, (problem,) = load(json.dumps({"ci": {name: value for name, value in ENTRY.items() if name != field}}))
    assert f"entry 'ci': {field} is missing" in problem


def test_the_effective_settings_name_the_tokens_only() -> None:
    environment, _ = read_environment({"HOLDFAST_TOKENS": json.dumps({"ci": ENTRY, "report": {**ENTRY, "x": 1}})})
    settings, _ = load_settings(environment)
    assert HASH not in repr(settings)
    environment, _ = read_environment({"HOLDFAST_TOKENS": json.dumps({"ci": ENTRY})})
    settings, _ = load_settings(environment)
    told = {value.variable: value.value for value in effective_settings(settings, environment)}
    assert told["HOLDFAST_TOKENS"] == "ci"


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "entry 'ci': scope lacks mcp, which every call needs"),
        (
            {"FASTMCP_SERVER_AUTH": "none", "HOLDFAST_ALLOW_ANONYMOUS": "true"},
            "HOLDFAST_ALLOW_ANONYMOUS lets in whoever has no token",
        ),
    ],
)
def test_a_token_that_would_be_of_no_use_stops_the_start(environ: dict[str, str], says: str) -> None:
    tokens = json.dumps({"ci": {**ENTRY, "scope": "read"}})
    with pytest.raises(ConfigurationError, match=f"HOLDFAST_TOKENS: .*{says}"):
        plan({"HOLDFAST_SERVER": "demo", "HOLDFAST_TOKENS": tokens, **environ})


GOOD, OTHER = (f"holdfast_{digit * 64}" for digit in "12")


class OtherLogin(TokenVerifier):
    """Believes everything, and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    async def verify_token(self, token: str) -> AccessToken | None:
        self.seen.append(token)
        return AccessToken(token=token, client_id="other", scopes=[])


class TestWhoIsLetIn:
    @pytest.fixture
    def store(self) -> FaultyStore:
        return FaultyStore()

    @pytest.fixture
    def revocations(self, store: FaultyStore) -> Revocations:
        return Revocations(PromptStore(store))

    @pytest.fixture
    def tokens(self, revocations: Revocations) -> StaticTokens:
        entries, _ = load(json.dumps({"ci": {**ENTRY, "token_hash": hash_of(GOOD)}}))
        return StaticTokens(entries.tokens, revocations, ["needed"])

    async def test_has_what_every_call_needs_and_an_end(self, tokens: StaticTokens) -> None:
        found = await tokens.verify(GOOD)
        assert found is not None
        assert (found.client_id, found.subject, found.scopes) == ("ci", "ci", ["needed"])
        assert found.expires_at == 32472144000
        assert found.token != GOOD

    @pytest.mark.parametrize(("seconds", "comes_in"), [(60, True), (-1, False)])
    async def test_is_nobody_once_the_time_is_over(
        self, revocations: Revocations, seconds: int, comes_in: bool
    ) -> None:
        end = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        entries, _ = load(json.dumps({"ci": {"token_hash": hash_of(GOOD), "expires_at": end}}))
        found = await StaticTokens(entries.tokens, revocations, []).verify(GOOD)
        assert (found is not None) is comes_in

    async def test_is_nobody_with_another_token_and_that_is_not_looked_up(
        self, tokens: StaticTokens, store: FaultyStore
    ) -> None:
        for token in (OTHER, hash_of(GOOD), f"{GOOD}\n", f" {GOOD}", "holdfast_é", "holdfast_\ud800", ""):
            assert await tokens.verify(token) is None
        assert store.operations == 0

    @pytest.mark.parametrize("made_up", ["password", "holdfast_password", f"{GOOD}1", GOOD[:-1], f"x{GOOD}"])
    async def test_is_nobody_with_a_token_that_was_not_made_here(self, revocations: Revocations, made_up: str) -> None:
        entries, _ = load(json.dumps({"ci": {**ENTRY, "token_hash": hash_of(made_up)}}))
        assert await StaticTokens(entries.tokens, revocations, []).verify(made_up) is None

    async def test_is_nobody_once_the_token_was_revoked_whatever_it_is_called(
        self, tokens: StaticTokens, revocations: Revocations
    ) -> None:
        entries, _ = load(json.dumps({"old": {**ENTRY, "token_hash": hash_of(GOOD)}, "ci": ENTRY}))
        await revocations.add("ci", entries.tokens["ci"])
        assert await tokens.verify(GOOD) is not None
        await revocations.add("old", entries.tokens["old"])
        assert await tokens.verify(GOOD) is None

    async def test_is_unknown_where_the_store_does_not_tell(self, tokens: StaticTokens, store: FaultyStore) -> None:
        store.errors = [OSError("gone")] * 9
        with outage.watching() as causes, pytest.raises(StoreUnavailable):
            await tokens.verify(GOOD)
        assert causes

    async def test_is_told_without_the_other_login_that_never_sees_what_looks_like_ours(
        self, tokens: StaticTokens
    ) -> None:
        login = OtherLogin()
        accept_static_tokens(login, tokens)
        assert await login.verify_token(GOOD) is not None
        assert await login.verify_token(OTHER) is None
        assert await login.verify_token("holdfast_") is None
        for mistaken in (f" {GOOD}", f"\t{GOOD}", f'"{GOOD}"', f"Bearer {GOOD}", f"{GOOD},{OTHER}", GOOD.upper()):
            assert await login.verify_token(mistaken) is None
        assert login.seen == []
        assert await login.verify_token("theirs") is not None
        assert login.seen == ["theirs"]


class TestCreate:
    def test_makes_a_token_that_its_entry_takes(self, capsys: pytest.CaptureFixture[str]) -> None:
        tokens = set()
        for _ in range(3):
            assert create("ci", expires="1h", scope="one two", as_json=True) == 0
            made = json.loads(capsys.readouterr().out)
            assert TOKEN.fullmatch(made["token"])
            assert made["token"] not in json.dumps(made["entry"])
            settings, problems = load(json.dumps(made["entry"]))
            assert problems == []
            assert settings.tokens["ci"].token_hash.get_secret_value() == hash_of(made["token"])
            tokens.add(made["token"])
        assert len(tokens) == 3

    @pytest.mark.parametrize(
        ("name", "expires", "scope", "says"),
        [
            ("a b", "90d", None, "is no name of a token"),
            ("ci", "soon", None, "--expires is not a duration"),
            ("ci", "0", None, "--expires is not between"),
            ("ci", "99999d", None, "--expires is not between"),
            ("ci", "9" * 400, None, "--expires is not between"),
            ("ci", "9" * 5000, None, "--expires "),
            ("ci", "90d", "a  b", "--scope is not"),
        ],
    )
    def test_makes_none_that_could_not_be_configured(
        self, name: str, expires: str, scope: str | None, says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert create(name, expires=expires, scope=scope) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert says in captured.err
        assert not re.search(r"holdfast_[0-9a-f]", captured.err)
