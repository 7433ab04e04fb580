"""Tests of the handlers: `python -m unittest` in this folder, no platform needed."""

import json
import sys
import types
import unittest


class AppError(Exception):
    def __init__(self, code, message, details=None, status=400):
        super().__init__(message)
        self.code, self.message, self.details, self.status = code, message, details, status


class ToolError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


def call_tool(name, arguments):
    if (name, arguments["timezone"]) != ("community.clock.now", "UTC"):
        raise ToolError("TOOL_FAILED", "there is no such time zone")
    return {"time": "2026-01-31T12:00:00+00:00", "timezone": "UTC"}


class FakeState:
    """Runtime state in a dict, with what the platform's has: get, set, delete, increment."""

    def __init__(self):
        self.values = {}

    def get(self, key):
        return self.values.get(key)

    def set(self, key, value):
        self.values[key] = value

    def delete(self, key):
        return self.values.pop(key, None) is not None

    def increment(self, key, by=1):
        self.values[key] = self.values.get(key, 0) + by
        return self.values[key]


sys.modules["uhlp_sdk"] = types.ModuleType("uhlp_sdk")
sys.modules["uhlp_sdk"].AppError = AppError
sys.modules["uhlp_sdk"].ToolError = ToolError
sys.modules["uhlp_sdk"].call_tool = call_tool
sys.modules["uhlp_sdk"].state = FakeState()

import handler  # noqa: E402 - after the fake, which it imports

CONTEXT = {"configuration": {"pageSize": 2}}


def request(ident=None, body=None, **query):
    path = {} if ident is None else {"id": str(ident)}
    return {"httpDetails": {"pathParameters": path, "queryParameters": query, "json": body}}


def create(title):
    return json.loads(handler.create_note(request(body={"title": title}), CONTEXT)["body"])


class NotesTest(unittest.TestCase):
    def setUp(self):
        handler.state = FakeState()

    def refused(self, function, ident):
        with self.assertRaises(AppError) as caught:
            function(request(ident, {"title": "x"}), CONTEXT)
        return caught.exception.code, caught.exception.status

    def test_a_created_note_can_be_read(self):
        answer = handler.create_note(request(body={"title": "Milk", "text": "two"}), CONTEXT)
        self.assertEqual((answer["statusCode"], answer["headers"]["Location"]), (201, "notes/1"))
        note = handler.read_note(request(1), CONTEXT)
        self.assertEqual(note, json.loads(answer["body"]))
        self.assertEqual((note["title"], note["text"], note["created"]), ("Milk", "two", note["updated"]))

    def test_a_tool_adds_a_note_without_a_request(self):
        note = handler.add_note({"title": "Milk"}, CONTEXT)
        self.assertEqual((note["id"], note["title"], note["text"]), (1, "Milk", ""))
        self.assertEqual(handler.read_note(request(1), CONTEXT), note)

    def test_an_update_keeps_the_moment_of_creation(self):
        created = create("Milk")
        changed = handler.update_note(request(1, {"title": "Bread"}), CONTEXT)
        self.assertEqual((changed["id"], changed["title"], changed["text"]), (1, "Bread", ""))
        self.assertEqual(changed["created"], created["created"])
        self.assertEqual(handler.read_note(request(1), CONTEXT), changed)

    def test_a_deleted_note_is_gone_and_counted_once(self):
        create("Milk")
        self.assertEqual(handler.delete_note(request(1), CONTEXT), {"statusCode": 204})
        self.assertEqual(self.refused(handler.delete_note, 1), ("NOTE_NOT_FOUND", 404))
        self.assertEqual(handler.stats(request(), CONTEXT), {"created": 1, "deleted": 1, "notes": 0})

    def test_what_is_not_there_is_a_404_and_what_is_no_number_a_400(self):
        for function in (handler.read_note, handler.update_note, handler.delete_note):
            self.assertEqual(self.refused(function, 7), ("NOTE_NOT_FOUND", 404))
            for ident in ("milk", "-1", "\u0663", "1" * 16, ""):
                self.assertEqual(self.refused(function, ident), ("INVALID_NUMBER", 400))

    def test_pages_go_from_the_newest_to_the_oldest_and_skip_deleted_notes(self):
        for title in ("one", "two", "three", "four", "five"):
            create(title)
        handler.delete_note(request(4), CONTEXT)
        pages, before = [], {}
        while True:
            page = handler.list_notes(request(**before), CONTEXT)
            pages.append([note["title"] for note in page["notes"]])
            if page["next"] is None:
                break
            before = {"before": str(page["next"])}
        self.assertEqual(pages, [["five"], ["three", "two"], ["one"]])

    def test_the_clock_is_asked_of_its_server(self):
        self.assertEqual(handler.clock(request(), CONTEXT)["time"], "2026-01-31T12:00:00+00:00")
        with self.assertRaises(AppError) as caught:
            handler.clock(request(timezone="Mars/X"), CONTEXT)
        self.assertEqual((caught.exception.code, caught.exception.status), ("NO_TIME", 400))

    def test_an_empty_service_lists_nothing(self):
        self.assertEqual(handler.list_notes(request(), CONTEXT), {"notes": [], "next": None})
        self.assertEqual(handler.stats(request(), CONTEXT), {"created": 0, "deleted": 0, "notes": 0})


if __name__ == "__main__":
    unittest.main()
