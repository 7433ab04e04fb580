"""The tools that the conformance suite asks for by name, as tools of this platform: see `product_server`.

Names and texts are the suite's. They are what apps and other servers offer through it: structured content,
blocks of content of every kind, errors, and parts of a result that are told early.
"""

from typing import Any

from uhlp_core.errors import UhlpError
from uhlp_mcp.blocks import Blocks
from uhlp_mcp.tools import Caller, Emit, Handler, Tool

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
ANYTHING: dict[str, Any] = {"type": "object"}
ADDRESS = {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}
DIALECT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"$anchor": "addressDef", **ADDRESS}},
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

IMAGE = {"type": "image", "data": PNG, "mimeType": "image/png"}
AUDIO = {"type": "audio", "data": WAV, "mimeType": "audio/wav"}


def _resource(uri: str, mime: str, text: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime, "text": text}}


def _content(*blocks: dict[str, Any]) -> Handler:
    async def handler(caller: Caller, given: dict[str, Any]) -> Blocks:
        return Blocks(list(blocks), None)

    return handler


async def _simple(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    return {"text": "This is a simple text response for testing."}


async def _fails(caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    raise UhlpError("This tool intentionally returns an error for testing")


async def _progress(caller: Caller, given: dict[str, Any], emit: Emit) -> dict[str, Any]:
    for step in (0, 50, 100):
        await emit(f"{step} of 100")
    return {"steps": 3}


def _plain(name: str, description: str, *blocks: dict[str, Any]) -> Tool:
    return Tool(name, description, NOTHING, None, _content(*blocks))


TOOLS = (
    Tool("test_simple_text", "Text.", NOTHING, ANYTHING, _simple),
    Tool("test_error_handling", "An error.", NOTHING, ANYTHING, _fails),
    Tool("test_tool_with_progress", "Progress.", NOTHING, ANYTHING, _simple, streaming=_progress),
    Tool("json_schema_2020_12_tool", "Tool with JSON Schema 2020-12 features", DIALECT, ANYTHING, _simple),
    _plain("test_image_content", "An image.", IMAGE),
    _plain("test_audio_content", "A sound.", AUDIO),
    _plain(
        "test_embedded_resource",
        "A resource inside a result.",
        _resource("test://embedded-resource", "text/plain", "This is an embedded resource content."),
    ),
    _plain(
        "test_multiple_content_types",
        "Text, image and resource.",
        {"type": "text", "text": "Multiple content types test:"},
        IMAGE,
        _resource("test://mixed", "application/json", '{"test": "data", "value": 123}'),
    ),
    # What a tool here logs goes to the app's log, and its streams tell of nothing but their own call.
    Tool("test_logging_tool", "Logs nothing to clients.", NOTHING, ANYTHING, _simple),
    Tool("test_streaming_elicitation", "Streams.", NOTHING, ANYTHING, _simple, streaming=_progress),
)
