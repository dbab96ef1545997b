"""Promise 7: a record or a collection's metadata that was torn, emptied or planted is a miss, and never trusted."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson
from promises.conftest import SCALE, Replicas, StartReplicas, Tell

ROUNDS = min(SCALE, 10)
READ_EACH_TIME = {"HOLDFAST_TOKEN_CACHE": "0"}

PLAIN = {"created_at": "2026-01-01T00:00:00+00:00", "version": 1}

DAMAGES: dict[str, Callable[[Path], object]] = {
    "emptied": lambda file: os.truncate(file, 0),
    "torn": lambda file: os.truncate(file, file.stat().st_size // 2),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "changed in one bit": lambda file: change_one_bit(file),
    "planted": lambda file: file.write_text(json.dumps({**PLAIN, "value": {"planted": True}})),
}
METADATA_DAMAGES: dict[str, Callable[[Path], object]] = {
    **{name: DAMAGES[name] for name in ("emptied", "torn", "zeroed")},
    "planted": lambda file: file.write_text(
        json.dumps({**json.loads(file.read_text()), "directory": str(file.parent / "planted")})
    ),
}


def change_one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def metadata_below(home: Path) -> list[Path]:
    return list(home.rglob("*-info.json"))


def records_below(home: Path) -> set[Path]:
    """All but the leases, which come and go."""
    return {file for file in home.rglob("*.json") if "leases" not in file.parent.name} - set(metadata_below(home))


def signed_in(replicas: Replicas, home: Path, account: str = "ada") -> tuple[OAuthClient, dict[str, list[Path]]]:
    """Return a client and the records that came with it, by collection, in the order in which they came."""
    before = records_below(home)
    client = replicas.new_client()
    client.person = ProxyPerson(account, quick=True)
    client.sign_in()
    came: dict[str, list[Path]] = {}
    for file in sorted(records_below(home) - before, key=lambda file: file.stat().st_mtime_ns):
        came.setdefault(file.parent.name, []).append(file)
    return client, came


def status_of_everything(client: OAuthClient) -> list[int]:
    return [status_of(request) for request in (client.call, client.refresh, client.authorize)]


def status_of(request: Callable[[], httpx.Response]) -> int:
    """The status of the answer; stock also breaks the connection off."""
    try:
        return request().status_code
    except httpx.TransportError:
        return 500


def can_sign_in(replicas: Replicas) -> bool:
    try:
        return replicas.client().call().is_success
    except (AssertionError, httpx.HTTPError):
        return False


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_a_miss(start_replicas: StartReplicas, tell: Tell, tmp_path: Path, damage: str) -> None:
    replicas, home = start_replicas(**READ_EACH_TIME), tmp_path / "data"
    bystander, collections = signed_in(replicas, home)
    damaged = errors = harmed = closed = 0
    for collection in [*collections] * ROUNDS:
        victim, records = signed_in(replicas, home)
        for file in records.get(collection, []):
            DAMAGES[damage](file)
            damaged += 1
        errors += sum(status >= 500 for status in status_of_everything(victim))
        harmed += status_of_everything(bystander) != [200, 200, 302]
        closed += not can_sign_in(replicas)
    tell(
        f"7. Records of each collection {damage}",
        f"{damaged} records in {len(collections)} collections; {errors} answers were errors of the server, {harmed} "
        f"times others were affected, {closed} times nobody could sign in",
        errors == harmed == closed == 0,
    )


def test_a_planted_registration_is_not_trusted(start_replicas: StartReplicas, tell: Tell, tmp_path: Path) -> None:
    replicas, home = start_replicas(**READ_EACH_TIME), tmp_path / "data"
    client = replicas.new_client()
    before = records_below(home)
    registration = client.register(client_name="A test client").json()
    (record,) = (file for file in records_below(home) - before if "proxy_clients" in file.parent.name)
    planted = {**registration, "client_name": "Another name", "allowed_redirect_uri_patterns": None}
    record.write_text(json.dumps({**PLAIN, "value": planted}))
    answer = client.authorize()
    believed = answer.is_redirect and "Another name" in replicas.new_client().http.get(answer.headers["location"]).text
    tell(
        "7. A registration planted without encryption",
        f"/authorize {answer.status_code}, {'believed' if believed else 'not believed'}",
        not answer.is_redirect and answer.status_code < 500,
    )


def test_exchanged_records_make_nobody_somebody_else(start_replicas: StartReplicas, tell: Tell, tmp_path: Path) -> None:
    replicas, home = start_replicas(**READ_EACH_TIME), tmp_path / "data"
    mistaken, errors, tried = [], 0, 0
    _, collections = signed_in(replicas, home)
    for collection in collections:
        ada, adas = signed_in(replicas, home)
        _, bobs = signed_in(replicas, home, "bob")
        for one, other in zip(adas.get(collection, []), bobs.get(collection, []), strict=False):
            contents = one.read_bytes(), other.read_bytes()
            other.write_bytes(contents[0])
            one.write_bytes(contents[1])
            tried += 1
        told = [ada.call_tool("whoami").text]
        errors += sum(status >= 500 for status in status_of_everything(ada))
        told.append(ada.call_tool("whoami").text)
        if any('"subject":"bob"' in text for text in told):
            mistaken.append(collection)
    tell(
        "7. Records of each collection exchanged with somebody else's",
        f"{tried} records; {errors} answers were errors of the server; taken for somebody else with "
        f"{', '.join(mistaken) or 'none of them'}",
        not errors and not mistaken,
    )


@pytest.mark.parametrize("damage", METADATA_DAMAGES)
def test_damaged_metadata_loses_nothing(start_replicas: StartReplicas, tell: Tell, tmp_path: Path, damage: str) -> None:
    replicas, home = start_replicas(**READ_EACH_TIME), tmp_path / "data"
    client, _ = signed_in(replicas, home)
    replicas.servers[0].kill()
    for file in metadata_below(home):
        METADATA_DAMAGES[damage](file)
    replicas.servers[0].start()
    statuses = status_of_everything(client)
    newcomer = status_of(replicas.new_client().register)
    tell(
        f"7. The metadata of all collections {damage}",
        f"call, refresh and authorize {statuses}, a new client {newcomer}",
        statuses == [200, 200, 302] and newcomer == 201,
    )
