"""What a payload brings along by mistake takes nothing from the login."""

from pathlib import Path

import httpx

from harness.oauth import OAuthClient
from harness.waiting import HANGS_AFTER
from integration.conftest import StartServer

OWN = "the payload's own"
PAYLOAD = f"""
from fastmcp import FastMCP
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from starlette.responses import PlainTextResponse

mcp = FastMCP("Careless", auth=StaticTokenVerifier({{"letmein": {{"client_id": "anyone", "scopes": ["mcp"]}}}}))


async def mine(request):
    return PlainTextResponse("{OWN}")


for path in ("/mcp", "/livez", "/readyz", "/token", "/register", "/revoke", "/authorize", "/signin", "/own"):
    mcp.custom_route(path, methods=["GET", "POST"])(mine)
"""


def test_the_login_is_ours_whatever_a_payload_brings(start_server: StartServer, tmp_path: Path) -> None:
    (payload := tmp_path / "server.py").write_text(PAYLOAD)
    server = start_server(HOLDFAST_SERVER=str(payload))
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        assert OAuthClient(http).call("letmein").status_code == 401
        for path in ("/mcp", "/livez", "/readyz", "/authorize", "/signin"):
            assert http.get(path).text != OWN, path
        for path in ("/mcp", "/token", "/register", "/revoke", "/authorize", "/signin"):
            assert http.post(path).text != OWN, path
        assert http.get("/own").text == OWN
        assert OAuthClient(http).sign_in().call().status_code == 200
