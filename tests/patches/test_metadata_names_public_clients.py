"""OAuth metadata tells that clients without a secret are welcome."""

from mcp.server.auth.routes import build_metadata
from mcp.server.auth.settings import ClientRegistrationOptions, RevocationOptions
from pydantic import AnyHttpUrl


def test_the_metadata_names_every_way_to_authenticate() -> None:
    metadata = build_metadata(
        AnyHttpUrl("http://localhost:8000"),
        None,
        ClientRegistrationOptions(enabled=True),
        RevocationOptions(enabled=True),
    )
    assert "none" in (metadata.token_endpoint_auth_methods_supported or [])
    assert "none" in (metadata.revocation_endpoint_auth_methods_supported or [])
