"""A volume with damaged, planted or moved files: the damaged record is a miss and a log line, never a 500."""

import os
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import httpx
import pytest

from harness.oauth import OAuthClient, Person, answer_parameters
from harness.selection import in_every_run
from harness.server import PIN, Server
from harness.waiting import HANGS_AFTER
from integration.conftest import StartServer

COLLECTIONS = ["holdfast", "holdfast_clients", "holdfast_grants", "holdfast_login"]

DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: os.truncate(file, 0),
    "torn": lambda file: os.truncate(file, file.stat().st_size // 2),
    "garbage": lambda file: file.write_bytes(b"\x00\xff" * 50),
    "planted": lambda file: file.write_text(
        '{"created_at": "2026-01-01T00:00:00+00:00", "value": {"client_id": "planted", "hash": "planted"}}'
    ),
}


def files_of(home: Path, collection: str) -> list[Path]:
    return list((home / "oauth-proxy" / collection).glob("*.json"))


def everything_that_clients_do(http: httpx.Client, signed_in: OAuthClient, code: str, page: str) -> list[int]:
    newcomer = OAuthClient(http)
    return [
        signed_in.call().status_code,
        signed_in.refresh().status_code,
        signed_in.authorize().status_code,
        signed_in.redeem(code).status_code,
        signed_in.revoke("not a token").status_code,
        Person(http).open(page).status_code,
        Person(http).approve(page, pin="not the PIN").status_code,
        newcomer.register().status_code,
        http.get("/readyz").status_code,
    ]


@pytest.mark.parametrize(
    ("damage", "collection"), in_every_run(list(zip(DAMAGES, COLLECTIONS, strict=True)), product(DAMAGES, COLLECTIONS))
)
def test_a_damaged_record_is_a_miss(start_server: StartServer, tmp_path: Path, collection: str, damage: str) -> None:
    server = start_server(HOLDFAST_PIN="")
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        pin = server.output().split("Sign-in PIN: ")[1].split()[0]
        client = OAuthClient(http)
        client.register()
        page = client.authorize().headers["location"]
        client.redeem(answer_parameters(Person(http).approve(page, pin=pin))["code"])
        code = answer_parameters(Person(http).approve(page, pin=pin))["code"]
        files = files_of(tmp_path / "data", collection)
        assert files
        for file in files:
            DAMAGES[damage](file)
        statuses = everything_that_clients_do(http, client, code, page)
        assert max(statuses) < 500, statuses
        server.restart()
        assert max(everything_that_clients_do(http, client, code, page)) < 500
        assert "Traceback" not in server.output()
        assert re.search("was renamed to .*corrupt|set aside", server.output())
        assert not set(files) & {file for file in files if file.exists() and file.stat().st_size == 0}


def test_a_volume_copied_elsewhere_keeps_its_sign_ins(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http).sign_in()
        server.kill()
        shutil.copytree(tmp_path / "data", tmp_path / "elsewhere" / "copy")
        shutil.rmtree(tmp_path / "data")
        server.environment["FASTMCP_HOME"] = str(tmp_path / "elsewhere" / "copy")
        server.start()
        assert client.call().status_code == 200
        assert client.refresh().status_code == 200


def test_a_client_whose_registration_was_lost_can_register_again(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http).sign_in()
        for file in files_of(tmp_path / "data", "holdfast_clients"):
            os.truncate(file, 0)
        assert client.refresh().json()["error"] == "invalid_client"
        assert OAuthClient(http).sign_in().call().status_code == 200


def test_a_key_that_is_not_the_volumes_own_reveals_nothing(start_server: StartServer, tmp_path: Path) -> None:
    server: Server = start_server()
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http).sign_in()
    kept = b"".join(file.read_bytes() for file in (tmp_path / "data" / "oauth-proxy").rglob("*") if file.is_file())
    names = "".join(str(file) for file in (tmp_path / "data").rglob("*"))
    for secret in (client.client_id, client.tokens["access_token"], client.tokens["refresh_token"], PIN):
        assert secret.encode() not in kept
        assert secret not in names
