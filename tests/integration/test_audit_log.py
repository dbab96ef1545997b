"""The audit log: one JSON line for each event, with who and what, and never with what opens anything."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from harness.oauth import REDIRECT_URI, OAuthClient, Person, answer_parameters
from harness.server import PIN, Server
from harness.waiting import eventually
from integration.test_cli import holdfast
from mcp_holdfast import audit
from mcp_holdfast.auth.machine_tokens import hash_of, made_up_token

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"
HOST = "localhost:18999"

TOKENS = {name: made_up_token() for name in ("ci", "old", "lost")}

Events = Callable[[], list[dict[str, Any]]]


def events_in(log: str) -> list[dict[str, Any]]:
    """The lines of the audit log, which stand among others."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["logger"] == "mcp_holdfast.audit"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What it logs at the quietest level and in plain text, so that the events depend on neither."""
    directory = tmp_path_factory.mktemp("server")
    server = Server(
        directory / "data", directory / "server.log", LOG_LEVEL="error", LOG_FORMAT="text", HOLDFAST_REFRESH_GRACE="1s"
    )
    server.environment["HOLDFAST_TOKENS"] = json.dumps(
        {
            name: {"token_hash": hash_of(token), "expires_at": "2020-01-01" if name == "old" else "2999-01-01"}
            for name, token in TOKENS.items()
        }
    )
    yield server.start()
    server.stop()


@pytest.fixture
def events(server: Server) -> Events:
    """Those of the test, without when they happened and where from, which is this machine."""
    before = len(events_in(server.output()))

    def since() -> list[dict[str, Any]]:
        found = events_in(server.output())[before:]
        for event in found:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", event.pop("timestamp"))
            assert event.pop("logger") == "mcp_holdfast.audit"
            assert event.pop("address", "127.0.0.1") == "127.0.0.1"
        return found

    return since


def test_a_session_is_told_from_the_registration_to_its_end(client: OAuthClient, events: Events) -> None:
    client.sign_in()
    client.refresh().raise_for_status()
    client.revoke(client.tokens["access_token"]).raise_for_status()
    told = events()
    session = told[3]["session"]
    whose = {"client_id": client.client_id, "client_name": "A test client"}
    of_session = {**whose, "session": session, "subject": "owner"}
    assert len(session) == 12
    assert told == [
        {"event": "registered", "result": "success", **whose, "host": HOST},
        {"event": "authorization_asked", "result": "success", "client_id": client.client_id, "host": HOST},
        {"event": "signed_in", "result": "success", **whose, "host": HOST},
        {"event": "code_redeemed", "result": "success", **of_session, "grant": "authorization_code"},
        {"event": "refreshed", "result": "success", **of_session, "grant": "refresh_token"},
        {"event": "session_ended", "result": "success", **of_session, "reason": "revoked_by_client", "host": HOST},
    ]


def test_what_is_used_again_is_told(client: OAuthClient, events: Events) -> None:
    client.sign_in()
    first = client.tokens["refresh_token"]
    client.refresh(first).raise_for_status()
    client.refresh(first).raise_for_status()
    eventually(lambda: client.refresh(first).status_code, lambda status: status == 400)
    assert client.refresh(client.tokens["refresh_token"]).status_code == 400
    told = [(event["event"], event.get("reason")) for event in events()[5:]]
    replays = [event for event in told if event[0] == "replayed"]
    assert replays
    assert told[len(replays) :] == [
        ("reuse_refused", None),
        ("session_ended", "refresh_token_reused"),
        ("exchange_refused", "invalid_grant"),
        ("exchange_refused", "invalid_grant"),
    ]


def test_a_code_that_is_used_again_ends_the_session(client: OAuthClient, events: Events) -> None:
    client.register()
    code = client.code()
    client.redeem(code).raise_for_status()
    eventually(lambda: client.redeem(code, redirect_uri=REDIRECT_URI).status_code, lambda status: status == 400)
    told = [(event["event"], event.get("grant"), event.get("reason")) for event in events()[4:]]
    assert told[-3:] == [
        ("reuse_refused", "authorization_code", None),
        ("session_ended", "authorization_code", "code_reused"),
        ("exchange_refused", "authorization_code", "invalid_grant"),
    ]


def test_who_was_not_let_in_is_told(client: OAuthClient, person: Person, events: Events) -> None:
    client.register(client_name="line\nbreak \u202e")
    page = client.authorize().headers["location"]
    person.approve(page, pin="wrong")
    assert answer_parameters(person.deny(page))["error"] == "access_denied"
    whose = {"client_id": client.client_id, "client_name": "line\nbreak \u202e", "host": HOST}
    assert events()[2:] == [
        {"event": "pin_refused", "result": "refused", **whose, "reason": "wrong_pin"},
        {"event": "denied", "result": "refused", **whose},
    ]


def test_what_is_refused_is_told_with_its_reason(client: OAuthClient, events: Events) -> None:
    client.register(redirect_uris=["https://attacker.example/callback"])
    client.client_id = "nobody" * 100
    client.authorize(redirect_uri="https://attacker.example/callback")
    client.authorize(redirect_uri="http://[")
    client.redeem("a code that nobody was given")
    client.revoke("a token that nobody was given")
    client.register()
    client.authorize(response_type="token")
    client.redeem("a code that nobody was given")
    client.http.post("/token", content=b"\xff\xfe", headers={"Content-Type": "application/x-www-form-urlencoded"})
    told = [(event["event"], event.get("reason"), event.get("client_id", "")[:7]) for event in events()]
    refused = [event for event in told if event[0] != "registered"]
    mine = client.client_id[:7]
    assert refused == [
        ("registration_refused", "invalid_redirect_uri", ""),
        ("authorization_refused", "invalid_request", "nobodyn"),
        ("authorization_refused", "invalid_request", "nobodyn"),
        ("client_refused", "invalid_client", "nobodyn"),
        ("client_refused", "invalid_client", "nobodyn"),
        ("authorization_refused", "unsupported_response_type", mine),
        ("exchange_refused", "invalid_grant", mine),
        ("exchange_refused", "invalid_request", ""),
    ]
    assert max(len(str(value)) for event in events() for value in event.values()) <= 200


def test_nobody_is_said_to_have_signed_in_who_has_not(client: OAuthClient, events: Events) -> None:
    for path in ("/authorize/", "/signin/"):
        client.http.get(path, params={"client_id": "somebody-elses", "code": "x"})
    told = events()
    assert [event["result"] for event in told] == ["refused"] * len(told)
    assert [event for event in told if "host" in event] == []


@pytest.mark.parametrize("own", ["code=x", "error=access_denied"])
def test_what_became_of_a_sign_in_is_not_for_the_client_to_say(
    client: OAuthClient, person: Person, events: Events, own: str
) -> None:
    address = f"{REDIRECT_URI}?{own}"
    client.register(redirect_uris=[address]).raise_for_status()
    client.authorize(redirect_uri=address, response_type="token")
    person.approve(client.authorize(redirect_uri=address).headers["location"])
    told = [event["event"] for event in events()]
    assert told == ["registered", "authorization_refused", "authorization_asked", "signed_in"]


def test_a_token_of_a_machine_that_is_not_good_is_told(server: Server, client: OAuthClient, events: Events) -> None:
    assert holdfast(server, "tokens", "revoke", "lost").returncode == 0
    refused = [*(TOKENS[name] for name in ("old", "lost")), made_up_token(), "holdfast_"]
    assert [client.call(token).status_code for token in refused] == [401] * 4
    assert client.call(TOKENS["ci"]).status_code == 200
    of_all = {"event": "token_refused", "result": "refused"}
    assert events() == [
        {**of_all, "subject": "old", "reason": "expired"},
        {**of_all, "subject": "lost", "reason": "revoked"},
        {**of_all, "reason": "unknown"},
        {**of_all, "reason": "unknown"},
    ]
    assert not any(token in server.output() for token in refused[:3])


def test_nothing_that_opens_anything_is_told(server: Server, client: OAuthClient, person: Person) -> None:
    client.register()
    page = client.authorize().headers["location"]
    code = answer_parameters(person.approve(page))["code"]
    client.redeem(code).raise_for_status()
    first = dict(client.tokens)
    client.refresh().raise_for_status()
    client.revoke(client.tokens["refresh_token"]).raise_for_status()
    for refused in (client.refresh(), client.refresh(first["refresh_token"]), client.redeem(code)):
        assert refused.status_code == 400
    told = server.output()
    secrets = [PIN, code, client.verifier, page.rpartition("=")[2]]
    secrets += [tokens[kind] for tokens in (first, client.tokens) for kind in ("access_token", "refresh_token")]
    assert [secret for secret in secrets if secret in told] == []


def test_a_token_that_a_client_takes_for_its_name_is_left_out(client: OAuthClient, events: Events) -> None:
    for before in ("", "\n", '"'):
        OAuthClient(client.http, before + TOKENS["ci"]).redeem("a code")
    assert [event["client_id"] for event in events()] == ["***", "\n***", '"***']


def test_the_page_tells_every_event_and_field() -> None:
    table = re.findall(r"^\| `(\w+)` \|", PAGE.read_text().partition("## Audit log")[2], flags=re.MULTILINE)
    assert table == [*get_args(audit.Event), "timestamp", "logger", "event", "result", *audit.FIELDS]
