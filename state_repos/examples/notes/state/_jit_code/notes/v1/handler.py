"""Notes: list, create, read, update, delete, count.

Where the notes live: one runtime value per note (`note:<id>`), and two counters (`notes:last`, the newest
id, and `notes:deleted`). Ids come from an atomic increment, so two requests at the same moment never get the
same one, and no request ever writes a list of notes that another one may be writing too.
"""

import json
from datetime import UTC, datetime

from uhlp_sdk import AppError, ToolError, call_tool, state

LAST = "notes:last"
DELETED = "notes:deleted"
MAX_ID_DIGITS = 15


def list_notes(input, context):
    """The newest notes. `next` is what to send as `?before=` for older ones; null when there are none.

    A page looks at a fixed number of ids, so a listing costs the same however many notes were deleted; a
    page can therefore hold fewer notes than `pageSize`.
    """
    before = input["httpDetails"]["queryParameters"].get("before")
    newest = _counter(LAST) if before is None else _number(before, "before") - 1
    oldest = max(newest - context["configuration"]["pageSize"], 0)
    found = [state.get(_key(ident)) for ident in range(newest, oldest, -1)]
    return {
        "notes": [note for note in found if note is not None],
        "next": oldest + 1 if oldest > 0 else None,
    }


def create_note(input, context):
    note = add_note(input["httpDetails"]["json"], context)
    return {
        "statusCode": 201,
        "headers": {"Content-Type": "application/json", "Location": f"notes/{note['id']}"},
        "body": json.dumps(note),
    }


def add_note(sent, context):
    """Answers the tool `app.add_note`: its input is the tool's arguments, and no HTTP request."""
    now = _now()
    note = {
        "id": state.increment(LAST),
        "title": sent["title"],
        "text": sent.get("text", ""),
        "created": now,
        "updated": now,
    }
    state.set(_key(note["id"]), note)
    return note


def clock(input, context):
    """Asks another MCP server of this app; a handler cannot tell it from a tool of the platform's."""
    timezone = input["httpDetails"]["queryParameters"].get("timezone", "UTC")
    try:
        return call_tool("community.clock.now", {"timezone": timezone})
    except ToolError as error:
        raise AppError("NO_TIME", error.message, status=400) from None


def read_note(input, context):
    return _existing(_ident(input))


def update_note(input, context):
    ident = _ident(input)
    sent = input["httpDetails"]["json"]
    note = {
        **_existing(ident),
        "title": sent["title"],
        "text": sent.get("text", ""),
        "updated": _now(),
    }
    state.set(_key(ident), note)
    return note


def delete_note(input, context):
    ident = _ident(input)
    # Two deletes at once: the one that really removed the value counts, the other finds nothing.
    if not state.delete(_key(ident)):
        raise _not_found(ident)
    state.increment(DELETED)
    return {"statusCode": 204}


def stats(input, context):
    created, deleted = _counter(LAST), _counter(DELETED)
    return {"created": created, "deleted": deleted, "notes": created - deleted}


def _key(ident):
    return f"note:{ident}"


def _counter(key):
    return state.get(key) or 0


def _ident(input):
    return _number(input["httpDetails"]["pathParameters"]["id"], "id")


def _number(text, name):
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_ID_DIGITS):
        raise AppError("INVALID_NUMBER", f"{name} must be a note's number, e.g. 1", {"parameter": name}, 400)
    return int(text)


def _existing(ident):
    note = state.get(_key(ident))
    if note is None:
        raise _not_found(ident)
    return note


def _not_found(ident):
    return AppError("NOTE_NOT_FOUND", f"there is no note {ident}", {"id": ident}, 404)


def _now():
    return datetime.now(UTC).isoformat(timespec="seconds")
