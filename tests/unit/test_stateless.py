"""Requests without an MCP session get the same answers in their own task as through mcp's streams and tasks."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.http import FastMCPStreamableHTTPSessionManager
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from mcp import McpError
from mcp.server.session import ServerSession
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.shared.session import RequestResponder
from mcp.types import ErrorData
from starlette.types import ASGIApp

from mcp_holdfast.http.stateless import answer_at_once

HEADERS = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
OPENING = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}


class Unspeakable:
    """Nothing that JSON could hold."""


@asynccontextmanager
async def prepared(_: FastMCP) -> AsyncIterator[dict[str, str]]:
    yield {"prepared": "yes"}


mcp: FastMCP = FastMCP("Various", lifespan=prepared)


@mcp.tool
async def add(a: int, b: int) -> int:
    return a + b


@mcp.tool
def greet(name: str = "you") -> str:
    return f"hello {name}"


@mcp.tool
async def fail() -> str:
    raise ToolError("it does not work")


@mcp.tool
async def crash() -> str:
    raise RuntimeError("not meant for anyone")


@mcp.tool
async def refuse() -> str:
    raise McpError(ErrorData(code=-32042, message="not now"))


@mcp.tool
async def tell(ctx: Context) -> str:
    """Say more before the answer than fits into any buffer."""
    for step in range(50):
        await ctx.report_progress(step)
        await ctx.info(f"step {step}")
    return str(ctx.lifespan_context["prepared"])


@mcp.tool
async def about(ctx: Context) -> list[Any]:
    request = ctx.request_context
    assert request is not None
    assert request.request is not None
    return [ctx.request_id, ctx.client_id, request.lifespan_context, request.request.headers["x-test"]]


@mcp.tool
async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@mcp.resource("test://thing/{name}")
async def thing(name: str) -> str:
    return f"the thing {name}"


@mcp.prompt
async def ask(what: str) -> str:
    return f"What is {what}?"


class Unspoken(Middleware):
    """Answers what cannot be sent, where it is asked to."""

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        result = await call_next(context)
        if context.message.arguments == {"name": "unspeakable"}:
            result.structured_content = {"result": Unspeakable()}
        return result


mcp.add_middleware(Unspoken())


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return message("tools/call", name=name, arguments=arguments)


def message(method: str, number: Any = 7, **parameters: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}


MESSAGES: dict[str, Any] = {
    "a call": call("add", a=1, b=2),
    "a call of a function": call("greet"),
    "a call with wrong arguments": call("add", a="one"),
    "a call that fails": call("fail"),
    "a call that crashes": call("crash"),
    "a call that is refused": call("refuse"),
    "a call that tells more than the answer": call("tell"),
    "a call that looks at its request": call("about"),
    "a call whose answer cannot be sent": call("greet", name="unspeakable"),
    "a call of nothing": call("nothing"),
    "a call without a name": message("tools/call", arguments={}),
    "a call with metadata": message(
        "tools/call", name="add", arguments={"a": 1, "b": 2}, _meta={"progressToken": 5, "client_id": "x"}
    ),
    "a call with a text as its id": message("tools/call", "seven", name="add", arguments={"a": 1, "b": 2}),
    "a call with a large id": message("tools/call", 10**30, name="add", arguments={"a": 1, "b": 2}),
    "initialize": message("initialize", **OPENING),
    "initialize in an unknown version": message("initialize", **{**OPENING, "protocolVersion": "1999-01-01"}),
    "initialize without parameters": message("initialize"),
    "a ping": {"jsonrpc": "2.0", "id": 1, "method": "ping"},
    "tools": message("tools/list"),
    "tools after a cursor that is none": message("tools/list", cursor="nowhere"),
    "resources": message("resources/list"),
    "a resource": message("resources/read", uri="test://thing/one"),
    "a resource that is not there": message("resources/read", uri="test://nothing"),
    "a resource that is no URI": message("resources/read", uri="nothing"),
    "a prompt": message("prompts/get", name="ask", arguments={"what": "this"}),
    "a log level": message("logging/setLevel", level="debug"),
    "an unknown method": message("tools/destroy"),
    "parameters that are a list": {**call("add"), "params": [1, 2]},
    "a notification": {"jsonrpc": "2.0", "method": "notifications/initialized"},
    "a cancellation": {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}},
    "an unknown notification": {"jsonrpc": "2.0", "method": "notifications/nothing"},
    "an answer to nothing": {"jsonrpc": "2.0", "id": 3, "result": {}},
    "an error to nothing": {"jsonrpc": "2.0", "id": 3, "error": {"code": 1, "message": "no"}},
    "another JSON-RPC": {**call("add", a=1, b=2), "jsonrpc": "1.0"},
    "a batch": [call("add", a=1, b=2), call("greet")],
    "a number": 7,
    "no JSON": b"{",
    "nothing": b"",
}
ODD_HEADERS: dict[str, dict[str, str]] = {
    "no media type that is known": {"Accept": "text/html"},
    "no JSON wanted": {"Accept": "text/event-stream"},
    "another content type": {"Content-Type": "text/plain"},
    "an unknown version": {"MCP-Protocol-Version": "1999-01-01"},
    "a session": {"Mcp-Session-Id": "one"},
}


@asynccontextmanager
async def client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


@asynccontextmanager
async def serving(*, json_response: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    app = mcp.http_app(path="/mcp", stateless_http=True, json_response=json_response)
    async with app.router.lifespan_context(app), client(app) as http:
        yield http


async def post(http: httpx.AsyncClient, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await http.post("/mcp", content=content, headers={**HEADERS, "X-Test": "here", **headers})


async def everything(http: httpx.AsyncClient) -> dict[str, tuple[int, dict[str, str], str]]:
    """Ask everything, and return status, header and body of each answer."""
    answers = {name: await post(http, body) for name, body in MESSAGES.items()}
    answers |= {name: await post(http, call("add", a=1, b=2), **headers) for name, headers in ODD_HEADERS.items()}
    answers |= {method: await http.request(method, "/mcp", headers=HEADERS) for method in ("GET", "DELETE", "PUT")}
    return {name: (answer.status_code, dict(answer.headers), answer.text) for name, answer in answers.items()}


@pytest.fixture(scope="module")
def through_streams() -> Any:
    """What mcp answers."""

    async def ask() -> Any:
        async with serving() as http:
            return await everything(http)

    return asyncio.run(ask())


@pytest.fixture
def at_once(through_streams: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own = FastMCPStreamableHTTPSessionManager._handle_stateless_request
    monkeypatch.setattr(FastMCPStreamableHTTPSessionManager, "_handle_stateless_request", own)
    answer_at_once()


@pytest.mark.usefixtures("at_once")
async def test_every_answer_is_the_same(through_streams: Any) -> None:
    async with serving() as http:
        answers = await everything(http)
    different = {name: (answers[name], of_mcp) for name, of_mcp in through_streams.items() if answers[name] != of_mcp}
    assert not different
    assert answers["a call"][0] == 200
    assert json.loads(answers["a call"][2])["result"]["structuredContent"] == {"result": 3}


@pytest.mark.usefixtures("at_once")
async def test_each_call_gets_its_own_answer_though_all_have_one_id() -> None:
    async with serving() as http:
        seconds = [number / 100 for number in range(10, 0, -1)]
        answers = await asyncio.gather(*(post(http, call("wait", seconds=wait)) for wait in seconds))
    assert [answer.json()["result"]["structuredContent"]["result"] for answer in answers] == seconds


@pytest.mark.usefixtures("at_once")
async def test_a_call_starts_no_task() -> None:
    names: list[str] = []

    @mcp.tool
    async def tasks() -> None:
        names.extend(task.get_name() for task in asyncio.all_tasks())

    async with serving() as http:
        before = {task.get_name() for task in asyncio.all_tasks()}
        await post(http, call("tasks"))
    mcp.local_provider.remove_tool("tasks")
    assert names
    assert not set(names) - before


@pytest.mark.usefixtures("at_once")
async def test_a_call_leaves_nothing_for_the_garbage_collector() -> None:
    kinds = (StreamableHTTPServerTransport, ServerSession, RequestResponder)
    async with serving() as http:
        gc.collect()
        gc.disable()
        try:
            await post(http, call("add", a=1, b=2))
            left = [thing for thing in gc.get_objects() if isinstance(thing, kinds)]
        finally:
            gc.enable()
    assert not left


@pytest.mark.usefixtures("at_once")
async def test_event_streams_still_carry_what_comes_before_the_answer() -> None:
    message = call("tell")
    message["params"]["_meta"] = {"progressToken": 1}
    async with serving(json_response=False) as http:
        answer = await post(http, message)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text.count("notifications/progress") == 50
    assert '"text":"yes"' in answer.text
