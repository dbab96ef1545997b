"""Authorization server metadata."""

from pathlib import Path
from urllib.parse import urlsplit

import httpx

from harness.server import Server
from rfc.conftest import Login


def test_the_issuer_is_what_clients_built_the_address_of(login: Login) -> None:
    """Section 3.3: equal letter by letter, so no slash at the end."""
    assert login.metadata()["issuer"] == login.issuer


def test_every_endpoint_that_is_named_is_there(login: Login) -> None:
    metadata = login.metadata()
    endpoints = {name: url for name, url in metadata.items() if name.endswith("_endpoint")}
    assert endpoints.keys() == {f"{name}_endpoint" for name in ("authorization", "token", "registration", "revocation")}
    for name, url in endpoints.items():
        assert urlsplit(url).netloc == urlsplit(login.issuer).netloc
        answer = login.http.get(url) if name == "authorization_endpoint" else login.http.post(url)
        assert answer.status_code == 400, (name, answer.text)


def test_nothing_is_named_that_does_not_work(login: Login) -> None:
    """That each of these works is shown in test_rfc_6749.py and test_rfc_7009.py; what CIMD adds, in tests/cimd."""
    metadata = login.metadata()
    methods = ["client_secret_post", "client_secret_basic", "none"]
    assert metadata["client_id_metadata_document_supported"] is False
    assert sorted(metadata["token_endpoint_auth_methods_supported"]) == sorted(methods)
    assert "token_endpoint_auth_signing_alg_values_supported" not in metadata
    assert sorted(metadata["revocation_endpoint_auth_methods_supported"]) == sorted(methods)
    assert metadata["grant_types_supported"] == ["authorization_code", "refresh_token"]
    assert metadata["response_types_supported"] == ["code"]
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["scopes_supported"] == login.scopes


def test_is_for_clients_in_browsers_too(login: Login) -> None:
    answer = login.http.get("/.well-known/oauth-authorization-server", headers={"Origin": "https://client.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"] == "application/json"


def test_an_issuer_with_a_path_is_found_where_clients_look(tmp_path: Path) -> None:
    """Section 3.1; a reverse proxy that takes the path away asks for the second address."""
    server = Server(tmp_path / "data", tmp_path / "server.log")
    issuer = server.environment["HOLDFAST_BASE_URL"] = f"{server.url}/team"
    server.start()
    try:
        for path in ("/.well-known/oauth-authorization-server/team", "/.well-known/oauth-authorization-server"):
            metadata = httpx.get(f"{server.url}{path}").raise_for_status().json()
            assert metadata["issuer"] == issuer
            assert metadata["token_endpoint"] == f"{issuer}/token"
        challenge = httpx.post(f"{server.url}/mcp").headers["www-authenticate"]
        address = f"{server.url}/.well-known/oauth-protected-resource/team/mcp"
        assert f'resource_metadata="{address}"' in challenge
        resource = httpx.get(address).raise_for_status().json()
        assert resource["resource"] == f"{issuer}/mcp"
        assert resource["authorization_servers"] == [issuer]
    finally:
        server.stop()
