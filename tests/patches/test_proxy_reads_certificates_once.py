"""Clients for the identity provider share what is read of the trusted certificates, until their file changes."""

import shutil
import ssl
from pathlib import Path
from unittest.mock import Mock

import certifi
import pytest
from fastmcp.server.auth.oauth_proxy import OAuthProxy
from fastmcp.server.auth.providers.jwt import JWTVerifier
from key_value.aio.stores.memory import MemoryStore


def a_proxy() -> OAuthProxy:
    return OAuthProxy(
        upstream_authorization_endpoint="https://login.example.com/authorize",
        upstream_token_endpoint="https://login.example.com/token",
        upstream_client_id="client",
        upstream_client_secret="a-secret-of-enough-length-for-a-test",
        token_verifier=JWTVerifier(public_key="a-secret-of-enough-length-for-a-test", algorithm="HS256"),
        base_url="https://mcp.example.com",
        client_storage=MemoryStore(),
    )


def test_certificates_are_read_once_and_again_where_they_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificates = tmp_path / "certificates.pem"
    shutil.copy(certifi.where(), certificates)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates))
    read = Mock(wraps=ssl.create_default_context)
    monkeypatch.setattr(ssl, "create_default_context", read)
    proxy = a_proxy()

    for _ in range(3):
        proxy._create_upstream_oauth_client()
    assert read.call_count == 1

    certificates.unlink()
    certificates.write_text(Path(certifi.where()).read_text() + "\n")
    proxy._create_upstream_oauth_client()
    assert read.call_count == 2
