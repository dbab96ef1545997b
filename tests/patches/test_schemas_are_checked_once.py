"""The schemas of a tool are checked once, and what does not fit them is said as before."""

from typing import Any

import httpx
import jsonschema
import pytest
from fastmcp import FastMCP
from jsonschema.validators import Draft202012Validator

NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
NUMBERS = {"type": "object", "properties": {"a": {"$ref": "#/$defs/number"}}, "$defs": {"number": NUMBER}}
UNKNOWN = {"type": "object", "properties": {"a": {"type": "number of some kind"}}}
SCHEMAS: dict[str, dict[str, Any]] = {"number": NUMBER, "numbers": NUMBERS, "unknown": UNKNOWN}
RESULTS: list[dict[str, Any]] = [{"a": 1}, {}, {"a": "one"}, {"a": 1, "b": 2}, {"a": {"a": None}}, {"a": {"a": 1}}]


def what_jsonschema_says(result: dict[str, Any], schema: dict[str, Any]) -> str | None:
    try:
        jsonschema.validate(result, schema)
    except jsonschema.ValidationError as error:
        return f"Output validation error: {error.message}"
    except jsonschema.SchemaError as error:
        return str(error)
    return None


async def test_a_schema_is_checked_once_and_what_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {name: [what_jsonschema_says(result, schema) for result in RESULTS] for name, schema in SCHEMAS.items()}
    server = FastMCP("validating")
    for name, schema in SCHEMAS.items():

        @server.tool(name=name, output_schema=schema)
        def show(result: dict[str, Any]) -> dict[str, Any]:
            return result

    checked: list[Any] = []
    check = Draft202012Validator.check_schema

    def checks(schema: Any) -> None:
        checked.append(schema)
        check(schema)

    monkeypatch.setattr(Draft202012Validator, "check_schema", checks)
    app = server.http_app(stateless_http=True, json_response=True)
    headers = {"Accept": "application/json, text/event-stream"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers) as client,
    ):

        async def ask(method: str, **params: Any) -> dict[str, Any]:
            asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            answered: dict[str, Any] = (await client.post("/mcp", json=asked)).json()["result"]
            return answered

        for _ in range(2):
            await ask("tools/list")
            for name in SCHEMAS:
                answers = [await ask("tools/call", name=name, arguments={"result": result}) for result in RESULTS]
                assert [answer["content"][0]["text"] if answer["isError"] else None for answer in answers] == said[name]
    assert len([schema for schema in checked if "number of some kind" not in str(schema)]) == len((NUMBER, NUMBERS))
    assert said["number"].count(None) == 1
    assert said["numbers"].count(None) == 2
    assert said["unknown"].count(None) == 0
