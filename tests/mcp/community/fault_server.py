"""An MCP server that does what servers should not: crash, hang, lie, change.

The standard library only, so that it starts at once and can break the protocol.

    python fault_server.py [--slow SECONDS] [--describe TEXT] [--tell TEXT] [--die TEXT] [--more TOOLS]
                           [--page TOOLS] [--dialect URI] [--offer TOOL]
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

listings = 0
left: list[subprocess.Popen[bytes]] = []
OPTIONS = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
ANY: dict[str, Any] = {"type": "object"}
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
# `<ESC>` stands for the character, which no argument may hold.
descriptions = {"echo": OPTIONS.get("--describe", "Says it again.").replace("<ESC>", "\x1b")}


def tools() -> list[dict[str, Any]]:
    text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    plain = [
        {"name": name, "description": descriptions.get(name, name), "inputSchema": ANY}
        for name in DOINGS
        if name != "echo"
    ]
    wrong = next(tool for tool in plain if tool["name"] == "wrong")
    wrong["outputSchema"] = NUMBER
    endless = next(tool for tool in plain if tool["name"] == "endless")
    endless["outputSchema"] = {"type": "object", "properties": {"n": {"pattern": "^(a+)+$"}}}
    echo = {
        "name": "echo",
        "title": "Echo",
        "description": descriptions["echo"],
        "inputSchema": text,
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    }
    if told := OPTIONS.get("--tell"):
        echo |= {"title": told, "inputSchema": {**text, "examples": [told], "$defs": {told: {"const": told}}}}
        plain.append({"name": told, "inputSchema": ANY})
    many = [{"name": f"more{number}", "inputSchema": ANY} for number in range(int(OPTIONS.get("--more", 0)))]
    if dialect := OPTIONS.get("--dialect"):
        echo["inputSchema"] = {"$schema": dialect, **text}
    return [tool for tool in (echo, *plain, *many) if tool["name"] == OPTIONS.get("--offer", tool["name"])]


def say(message: dict[str, Any]) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def told(text: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], **more}


def look(given: dict[str, Any]) -> dict[str, Any]:
    """What it sees of the machine."""
    found: dict[str, Any] = {"environment": dict(os.environ), "uid": os.getuid(), "cwd": os.getcwd()}
    found["command"] = sys.argv
    found["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
    for path in given.get("paths", ()):
        try:
            found[path] = sorted(os.listdir(path))
        except OSError as error:
            found[path] = error.strerror
    return told(json.dumps(found))


def change(given: dict[str, Any]) -> dict[str, Any]:
    for tool in given.get("tools", ("echo",)):
        descriptions[tool] = given["to"]
    say({"method": "notifications/tools/list_changed"})
    return told("changed")


def tree(given: dict[str, Any]) -> dict[str, Any]:
    left.append(subprocess.Popen(["/bin/sh", "-c", "sleep 600; true"]))
    return told("started")


def crash(given: dict[str, Any]) -> dict[str, Any]:
    sys.stderr.write(f"broken: {given.get('say', '')}\n")
    sys.stderr.flush()
    os._exit(3)


def hang(given: dict[str, Any]) -> dict[str, Any]:
    while True:
        time.sleep(60)


def garbage(given: dict[str, Any]) -> dict[str, Any]:
    print("this is no message\n{}\n[]\n" * given.get("times", 1), flush=True)
    return told("after it")


def keep(given: dict[str, Any]) -> dict[str, Any]:
    with open("kept", "a") as file:
        file.write("x")
    return told(str(os.path.getsize("kept")))


def fill(given: dict[str, Any]) -> dict[str, Any]:
    for number in range(given["files"]):
        with open(f"filler-{number}", "wb") as file:
            file.write(b"x" * given["bytes"])
    return told("filled")


def allocate(given: dict[str, Any]) -> dict[str, Any]:
    try:
        return told(str(len(b"x" * given["bytes"])))
    except MemoryError:
        return told("no memory")


def fork(given: dict[str, Any]) -> dict[str, Any]:
    """Start processes until it may not, or has as many as were asked for."""
    try:
        while len(left) < given["processes"]:
            left.append(subprocess.Popen(["/bin/sleep", "600"]))
    except OSError:
        pass
    return told(str(len(left)))


def fail(given: dict[str, Any]) -> dict[str, Any]:
    raise Refused(given["say"])


class Refused(Exception):
    """Answered with an error of JSON-RPC in place of a result."""


DOINGS: dict[str, Any] = {
    "echo": lambda given: told(given["text"]),
    "look": look,
    "change": change,
    "tree": tree,
    "crash": crash,
    "hang": hang,
    "garbage": garbage,
    "keep": keep,
    "fill": fill,
    "listings": lambda given: told(str(listings)),
    "blocks": lambda given: {"content": given["content"]},
    "structured": lambda given: told("{}", structuredContent=given["content"]),
    "allocate": allocate,
    "fork": fork,
    "fail": fail,
    "ignore": lambda given: None,
    "huge": lambda given: told("x" * (5 << 20)),
    "wrong": lambda given: told("{}", structuredContent={"n": "many"}),
    "endless": lambda given: told("{}", structuredContent={"n": "a" * 60 + "!"}),
    "refuse": lambda given: told(given.get("say", "not today"), isError=True),
}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """The result; None where it gives no answer at all. Raises Refused."""
    global listings
    if method == "initialize":
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {"listChanged": True}},
            "serverInfo": {"name": "fault", "version": "1"},
        }
    if method == "tools/list":
        listings += 1
        found = tools()
        size = int(OPTIONS.get("--page", len(found)))
        start = int(params.get("cursor", 0))
        more = {"nextCursor": str(start + size)} if start + size < len(found) else {}
        return {"tools": found[start : start + size], **more}
    if method == "tools/call":
        result: dict[str, Any] | None = DOINGS[params["name"]](params.get("arguments", {}))
        return result
    raise Refused("no such method")


def note(what: str, request: int) -> None:
    """For tests to read, in the file that `--note` names."""
    if "--note" in OPTIONS:
        with open(OPTIONS["--note"], "a") as file:
            file.write(f"{what} {request}\n")


def main() -> None:
    if "--die" in OPTIONS:
        sys.exit(f"cannot start with {OPTIONS['--die']}")
    time.sleep(float(OPTIONS.get("--slow", 0)))
    for line in sys.stdin:
        message = json.loads(line)
        method, params = message.get("method"), message.get("params", {})
        if method == "notifications/cancelled":
            note("cancelled", params["requestId"])
        if "id" not in message or method is None:
            continue
        if method == "tools/call":
            note("called", message["id"])
        try:
            result = answer(method, params)
        except Refused as error:
            say({"id": message["id"], "error": {"code": -32601, "message": str(error)}})
        else:
            if result is not None:
                say({"id": message["id"], "result": result})


main()
