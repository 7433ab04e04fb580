"""The parse cache: by content and kind, bounded, and never a problem's file."""

from uhlp_state.parse_cache import ENTRY_OVERHEAD, ParseCache, Parsed


class Counted:
    """A parser that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return Parsed(self.calls)


def test_the_same_content_is_parsed_once_per_kind():
    cache, parse = ParseCache(), Counted()
    assert [cache.get(*key, 1, parse).value for key in [("a", "x"), ("a", "x"), ("a", "y"), ("b", "x")]] == [
        1,
        1,
        2,
        3,
    ]


def test_what_was_not_used_for_longest_goes_first():
    cache, parse = ParseCache(capacity=2 * (ENTRY_OVERHEAD + 10)), Counted()
    for blob in ("a", "b", "a", "c", "a", "b"):
        cache.get(blob, "x", 10, parse)
    assert parse.calls == 4
    assert cache.get("a", "x", 10, parse).value == 1


def test_what_is_larger_than_the_cache_is_not_kept_and_drives_nothing_out():
    cache, parse = ParseCache(capacity=2 * ENTRY_OVERHEAD), Counted()
    cache.get("a", "x", 0, parse)
    cache.get("b", "x", 10 * ENTRY_OVERHEAD, parse)
    cache.get("b", "x", 10 * ENTRY_OVERHEAD, parse)
    cache.get("a", "x", 0, parse)
    assert parse.calls == 3
