"""A body that Python cannot read as JSON is the client's mistake, whatever Python calls it."""

import httpx
import pytest
from fastmcp import FastMCP

TOO_DEEP = b"[" * 100_000
TOO_MANY_DIGITS = b'{"jsonrpc":"2.0","method":"ping","id":' + b"9" * 5000 + b"}"
NO_UTF_8 = b'{"jsonrpc":"2.0","method":"ping","id":"\xff"}'
HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.mark.parametrize("body", [TOO_DEEP, TOO_MANY_DIGITS, NO_UTF_8], ids=["deep", "digits", "utf-8"])
async def test_a_body_that_cannot_be_read_is_refused(body: bytes) -> None:
    app = FastMCP("any").http_app(stateless_http=True, json_response=True)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=HEADERS) as client,
    ):
        answer = await client.post("/mcp", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == -32700
    assert answer.json()["error"]["message"].startswith("Parse error: ")
