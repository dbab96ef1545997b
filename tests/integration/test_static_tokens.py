"""Bearer tokens of machines, with a login beside them and without, until they expire or are revoked."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness import caller_payload
from harness.oauth import OAuthClient, tool_result
from harness.server import Server
from harness.waiting import eventually
from integration.test_cli import holdfast
from mcp_holdfast.auth.machine_tokens import hash_of, made_up_token
from mcp_holdfast.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "access.md"
TOKENS = {name: made_up_token() for name in ("ci", "report", "narrow", "for-good", "old")}
ENTRIES: dict[str, dict[str, Any]] = {
    name: {"token_hash": hash_of(token), "expires_at": "2999-01-01"} for name, token in TOKENS.items()
}
ENTRIES["report"] |= {"scope": "mcp more", "claims": {"team": "data", "sub": "reports"}}
ENTRIES["for-good"]["expires_at"] = "never"
ENTRIES["old"]["expires_at"] = "2020-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With the built-in login."""
    directory = tmp_path_factory.mktemp("server")
    file = directory / "tokens.json"
    file.write_text(json.dumps(ENTRIES))
    payload = f"{caller_payload.__file__}:mcp"
    server = Server(directory / "data", directory / "log", HOLDFAST_SERVER=payload, HOLDFAST_TOKENS_FILE=str(file))
    server.environment |= {"HOLDFAST_TOKEN_CACHE": "1", "LOG_LEVEL": "debug"}
    yield server.start()
    server.stop()


def with_token(http: httpx.Client, name: str) -> OAuthClient:
    return OAuthClient(http, tokens={"access_token": TOKENS[name]})


def test_a_machine_comes_in_and_payloads_learn_which_one_and_no_token(http: httpx.Client) -> None:
    ci, report = (tool_result(with_token(http, name).call_tool("caller")) for name in ("ci", "report"))
    assert (ci["client_id"], ci["scopes"], ci["claims"]) == ("ci", ["mcp"], {"sub": "ci"})
    assert (report["client_id"], report["scopes"]) == ("report", ["mcp", "more"])
    assert report["claims"] == {"sub": "reports", "team": "data"}
    assert not any(token in json.dumps([ci, report]) for token in TOKENS.values())


def test_people_sign_in_beside_it(http: httpx.Client) -> None:
    assert OAuthClient(http).sign_in().call().status_code == 200


def test_a_session_of_one_token_is_closed_to_another(http: httpx.Client) -> None:
    session = with_token(http, "ci").call().headers["mcp-session-id"]
    headers = {"Mcp-Session-Id": session, "Accept": "application/json, text/event-stream"}
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    for name, status in (("report", 404), ("ci", 200)):
        bearer = {"Authorization": f"Bearer {TOKENS[name]}"}
        assert http.post("/mcp", json=call, headers={**headers, **bearer}).status_code == status


@pytest.mark.parametrize(
    "token",
    [
        TOKENS["old"],
        made_up_token(),
        TOKENS["ci"][:-1],
        f"{TOKENS['ci']}0",
        TOKENS["ci"].upper(),
        TOKENS["ci"].removeprefix("holdfast_"),
        ENTRIES["ci"]["token_hash"],
        f"holdfast_{ENTRIES['ci']['token_hash'].removeprefix('sha256:')}",
        "holdfast_",
        f"holdfast_{'a' * 20_000}",
        "ci",
    ],
    ids=["expired", "unknown", "cut", "longer", "upper", "bare", "hash", "hex", "prefix", "long", "name"],
)
def test_what_is_not_exactly_a_good_token_is_refused_as_rfc_6750_says(http: httpx.Client, token: str) -> None:
    refused = OAuthClient(http).call(token)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer ")
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    assert token not in refused.text


def test_it_is_taken_from_the_header_only(http: httpx.Client) -> None:
    token = TOKENS["ci"]
    for request in (
        http.build_request("POST", "/mcp", params={"access_token": token}, json={}),
        http.build_request("POST", "/mcp", data={"access_token": token}),
        http.build_request("POST", "/mcp", json={}, headers={"Authorization": f"Basic {token}"}),
        http.build_request("POST", "/mcp", json={}, headers={"Authorization": token}),
    ):
        assert http.send(request).status_code == 401


def test_it_is_good_for_nothing_else(http: httpx.Client) -> None:
    client = OAuthClient(http)
    client.register().raise_for_status()
    assert client.refresh(TOKENS["ci"]).json()["error"] == "invalid_grant"
    assert client.redeem(TOKENS["ci"]).json()["error"] == "invalid_grant"
    client.revoke(TOKENS["ci"]).raise_for_status()
    assert with_token(http, "ci").call().status_code == 200


def test_the_page_tells_how_to_make_list_and_revoke_one(
    server: Server, http: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    found = re.findall(r"^docker exec holdfast holdfast (tokens.*)$", PAGE.read_text(), flags=re.MULTILINE)
    create, listing, revoke = (command.split() for command in found)

    with pytest.raises(SystemExit, match=r"^0$"):
        main(create)
    made = capsys.readouterr()
    token, entry = re.findall(r"^(?:token|entry)  (.*)$", made.out, flags=re.MULTILINE)
    assert hash_of(token) == json.loads(entry)["ci"]["token_hash"]
    assert "shown only now" in made.err

    narrow = with_token(http, "narrow")
    assert narrow.call().status_code == 200
    revoked = holdfast(server, *[word.replace("ci", "narrow") for word in revoke])
    assert revoked.stdout.startswith("revoked; running servers refuse it within 1 s.")
    refused = eventually(narrow.call, lambda answer: answer.status_code == 401, within=10)
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]

    listed = holdfast(server, *listing).stdout
    states = {line.split()[0]: line.split()[1] for line in listed.splitlines()[1:]}
    assert states == {"ci": "good", "for-good": "good", "narrow": "revoked", "old": "expired", "report": "good"}
    assert "2999-01-01 00:00" in listed

    # What was revoked stays so, and the rest goes on, whatever becomes of the process.
    server.restart()
    assert with_token(http, "narrow").call().status_code == 401
    assert with_token(http, "ci").call().status_code == 200


def test_the_start_warns_of_one_that_never_ends_and_nothing_secret_is_in_the_log(server: Server) -> None:
    log = server.output()
    assert "HOLDFAST_TOKENS: the token for-good never expires" in log
    assert "HOLDFAST_TOKENS: the token old has expired" in log
    assert not any(part in log for token in TOKENS.values() for part in (token, hash_of(token)))
