"""A payload with all that the server scenarios of the MCP conformance suite ask for and FastMCP can be told to offer.

Names, texts and schemas are those that the suite looks for; it describes them in each scenario.
"""

import base64
import io
import json
import wave
from typing import Any, Literal

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.prompts import Message
from fastmcp.tools import FunctionTool
from fastmcp.utilities.types import Audio, Image
from mcp.types import EmbeddedResource, ImageContent, TextContent, TextResourceContents
from pydantic import AnyUrl, BaseModel

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")

mcp = FastMCP("Everything", dereference_schemas=False)


def silence() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 1, "NONE", ""))
        sound.writeframes(bytes(2))
    return file.getvalue()


def embedded(uri: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(
        type="resource", resource=TextResourceContents(uri=AnyUrl(uri), mimeType="text/plain", text=text)
    )


def picture() -> ImageContent:
    return ImageContent(type="image", data=base64.b64encode(PIXEL).decode(), mimeType="image/png")


@mcp.tool
def test_simple_text() -> str:
    """Answer with a text."""
    return "This is a simple text response for testing."


@mcp.tool
def test_image_content() -> Image:
    """Answer with an image."""
    return Image(data=PIXEL, format="png")


@mcp.tool
def test_audio_content() -> Audio:
    """Answer with a sound."""
    return Audio(data=silence(), format="wav")


@mcp.tool
def test_embedded_resource() -> list[Any]:
    """Answer with a resource."""
    return [embedded("test://embedded-resource", "This is an embedded resource content.")]


@mcp.tool
def test_multiple_content_types() -> list[Any]:
    """Answer with a text, an image and a resource."""
    text = TextContent(type="text", text="Multiple content types test:")
    return [text, picture(), embedded("test://mixed-content-resource", "The resource among them.")]


@mcp.tool
def test_error_handling() -> str:
    """Fail."""
    raise ToolError("This tool intentionally returns an error for testing")


@mcp.tool
async def test_tool_with_logging(context: Context) -> str:
    """Log three messages."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.info(message)
    return "Logged."


@mcp.tool
async def test_tool_with_progress(context: Context) -> str:
    """Report progress three times."""
    for progress in (0, 50, 100):
        await context.report_progress(progress, 100)
    return "Done."


@mcp.tool
async def test_sampling(prompt: str, context: Context) -> str:
    """Ask the client's model."""
    return f"LLM response: {(await context.sample(prompt)).text}"


class Contact(BaseModel):
    """Who somebody is."""

    username: str
    email: str


@mcp.tool
async def test_elicitation(message: str, context: Context) -> str:
    """Ask the user."""
    answer = await context.elicit(message, Contact)  # type: ignore[arg-type]  # its overloads are told apart by docstrings
    return f"User response: {answer}"


class Profile(BaseModel):
    """A form with a default of each type."""

    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Literal["active", "inactive", "pending"] = "active"
    verified: bool = True


@mcp.tool
async def test_elicitation_sep1034_defaults(context: Context) -> str:
    """Ask the user with a form that has defaults (SEP-1034)."""
    return f"Elicitation completed: {await context.elicit('Please review', Profile)}"  # type: ignore[arg-type]


def titled(*names: str) -> list[dict[str, str]]:
    return [{"const": f"value{number}", "title": name} for number, name in enumerate(names, 1)]


OPTIONS = ["option1", "option2", "option3"]
TITLES = ("First Option", "Second Option", "Third Option")
CHOICES = {
    "untitledSingle": {"type": "string", "enum": OPTIONS},
    "titledSingle": {"type": "string", "oneOf": titled(*TITLES)},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": titled(*TITLES)}},
}


@mcp.tool
async def test_elicitation_sep1330_enums(context: Context) -> str:
    """Ask the user with every kind of choice (SEP-1330), for which FastMCP's own elicit has no types."""
    schema = {"type": "object", "properties": CHOICES, "required": []}
    answer = await context.session.elicit("Please choose", schema, related_request_id=context.request_id)
    return f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}"


def json_schema_2020_12_tool(name: str = "", address: dict[str, str] | None = None) -> str:
    return f"{name} {address}"


mcp.add_tool(
    FunctionTool(
        fn=json_schema_2020_12_tool,
        name="json_schema_2020_12_tool",
        description="A schema with what JSON Schema 2020-12 brought (SEP-1613)",
        parameters={
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": {"address": {"type": "object", "properties": {"street": {"type": "string"}}}},
            "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
            "additionalProperties": False,
        },
    )
)


@mcp.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    return "This is the content of the static text resource."


@mcp.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    return PIXEL


@mcp.resource("test://watched-resource", mime_type="text/plain")
def watched() -> str:
    return "Nobody can subscribe to this."


@mcp.resource("test://template/{identifier}/data", mime_type="application/json")
def template(identifier: str) -> str:
    return json.dumps({"id": identifier, "templateTest": True, "data": f"Data for ID: {identifier}"})


@mcp.prompt
def test_simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


@mcp.prompt
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@mcp.prompt
def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:  # noqa: N803  # the suite's name
    """A prompt with a resource."""
    return [Message(embedded(resourceUri, "Embedded resource content for testing."))]


@mcp.prompt
def test_prompt_with_image() -> list[Message]:
    """A prompt with an image."""
    return [Message(picture()), Message("Please analyze the image above.")]
