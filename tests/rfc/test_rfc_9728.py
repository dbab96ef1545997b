"""Protected resource metadata."""

import re

import pytest

from rfc.conftest import Login


@pytest.mark.parametrize("token", ["", "Bearer of-nobody"], ids=["no token", "wrong token"])
def test_who_may_not_use_the_server_is_told_where_to_read_how_to(login: Login, token: str) -> None:
    """Sections 3.1 and 5.1."""
    refused = login.http.post("/mcp", headers={"Authorization": token} if token else {})
    assert refused.status_code == 401
    found = re.search(r'resource_metadata="([^"]+)"', refused.headers["www-authenticate"])
    assert found
    assert found[1] == f"{login.server.url}/.well-known/oauth-protected-resource/mcp"
    metadata = login.http.get(found[1]).raise_for_status().json()
    assert metadata["resource"] == login.resource
    assert metadata["authorization_servers"] == [login.metadata()["issuer"]]
    assert metadata["scopes_supported"] == login.metadata()["scopes_supported"]
    assert metadata["bearer_methods_supported"] == ["header"]
