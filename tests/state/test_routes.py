"""Route patterns, and the table against a naive matcher that tries every pattern in turn."""

from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uhlp_state.routes import BadPattern, Match, MethodNotAllowed, RouteConflict, RoutePattern, RouteTable


def table(*routes):
    return RouteTable((RoutePattern.parse(pattern), methods, pattern) for pattern, *methods in routes)


def taken(routes, path, method="GET"):
    match = routes.match(path, method)
    return (match.value, match.parameters) if isinstance(match, Match) else match


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "a/b", "//", "/a//b", "/a/../b", "/."),
        *("/:", "/:1", "/:a-b", "/:a/:a", "/*", "/*a/b", "/a:b*"),
        *("/a b", "/a?b", "/a#b", "/%41", "/é", "/a\\b", "/\n"),
        "/" + "a/" * 64,
    ],
)
def test_what_is_no_pattern(text):
    with pytest.raises(BadPattern) as caught:
        RoutePattern.parse(text)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "shape", "names"),
    [
        ("/", ("",), ()),
        ("/a/b", ("a", "b"), ()),
        ("/a/", ("a", ""), ()),
        ("/a/:id", ("a", ":"), ("id",)),
        ("/:a/x/*rest", (":", "x", "*"), ("a", "rest")),
    ],
)
def test_patterns(text, shape, names):
    pattern = RoutePattern.parse(text)
    assert (pattern.shape, pattern.names) == (shape, names)


def test_static_beats_parameter_beats_wildcard():
    routes = table(["/a/b"], ["/a/:x"], ["/*all"])
    assert taken(routes, "/a/b") == ("/a/b", {})
    assert taken(routes, "/a/c") == ("/a/:x", {"x": "c"})
    assert taken(routes, "/b/c/d") == ("/*all", {"all": "b/c/d"})
    assert taken(routes, "/") is None


def test_a_dead_end_is_left_again():
    routes = table(["/a/b/:x"], ["/a/:y/c"])
    assert taken(routes, "/a/b/c") == ("/a/b/:x", {"x": "c"})
    assert taken(table(["/a/b/d"], ["/a/:y/c"]), "/a/b/c") == ("/a/:y/c", {"y": "b"})
    assert taken(table(["/a/:x/d"], ["/*all"]), "/a/b/c") == ("/*all", {"all": "a/b/c"})


def test_a_more_specific_pattern_hides_only_its_own_methods():
    routes = table(["/a", "POST"], ["/:x", "GET"])
    assert taken(routes, "/a") == ("/:x", {"x": "a"})
    assert taken(routes, "/a", "POST") == ("/a", {})
    assert taken(routes, "/a", "PUT") == MethodNotAllowed(("GET", "HEAD", "POST"))


def test_no_methods_mean_get_and_head_follows_from_get():
    routes = table(["/a"], ["/b", "HEAD", "GET"])
    assert taken(routes, "/a", "HEAD") == ("/a", {})
    assert taken(routes, "/a", "POST") == MethodNotAllowed(("GET", "HEAD"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/files/a%2Fb", {"name": "a/b"}),
        ("/files/a%252Fb", {"name": "a%2Fb"}),
        ("/files/%C3%A9", {"name": "é"}),
        ("/files/a+b", {"name": "a+b"}),
        ("/files/%2e%2e", {"name": ".."}),
        ("/files/%ff", None),
        ("/files/%", None),
        ("/files/%2", None),
        ("/files/%zz", None),
        ("/files/", None),
        ("/files/a/", None),
        ("/%66iles/a", {"name": "a"}),
        ("files/a", None),
        ("", None),
    ],
)
def test_segments_are_split_before_they_are_decoded(path, expected):
    match = table(["/files/:name"]).match(path, "GET")
    assert (match.parameters if match else None) == expected


def test_a_wildcard_takes_one_segment_or_more():
    routes = table(["/files/*path"])
    assert taken(routes, "/files/a/b%2Fc/") == ("/files/*path", {"path": "a/b/c/"})
    assert taken(routes, "/files/") is None
    assert taken(routes, "/files") is None


def test_the_trailing_slash_counts_and_the_other_form_is_offered():
    routes = table(["/a"], ["/b/"], ["/c"], ["/c/"], ["/d", "POST"])
    assert taken(routes, "/a/") is None
    assert routes.slash_variant("/a/", "GET") == "/a"
    assert routes.slash_variant("/b", "GET") == "/b/"
    assert routes.slash_variant("/c", "GET") is None
    assert routes.slash_variant("/d/", "GET") is None
    assert routes.slash_variant("/x", "GET") is None
    assert routes.slash_variant("/", "GET") is None


def test_a_redirect_never_leads_to_another_host():
    routes = table(["/a"], ["/:x"], ["/:x/:y"])
    assert routes.slash_variant("//evil.example/", "GET") is None
    assert routes.slash_variant("/\\evil.example/", "GET") is None


@pytest.mark.parametrize(
    "routes", [(["/:a"], ["/:b"]), (["/a", "GET", "POST"], ["/a", "POST"]), (["/*a"], ["/*b"])]
)
def test_two_routes_for_the_same_requests_conflict(routes):
    with pytest.raises(RouteConflict):
        table(*routes)


def test_a_path_with_very_many_segments_matches_nothing_and_takes_no_time():
    routes = table(
        ["/*all"], *[["/" + "/".join(f":p{n}" for n in range(depth)) + "/x"] for depth in range(1, 30)]
    )
    assert routes.match("/a" * 100_000, "GET") is None


NAMES = st.sampled_from(["a", "b", "é", "%2F"])
SEGMENTS = st.sampled_from(["a", "b", ":x"])
PATTERNS = st.builds(
    lambda parts, end: (
        "/" + "/".join([f":p{n}" if part == ":x" else part for n, part in enumerate(parts)] + end)
    ),
    st.lists(SEGMENTS, max_size=3),
    st.sampled_from([[], [""], ["*rest"]]),
)
METHODS = st.lists(st.sampled_from(["GET", "POST", "HEAD"]), unique=True, max_size=3)


def naive(routes, path, method):
    """Every pattern in turn; of those that fit, the most specific segment by segment from the left."""
    raw = path[1:].split("/")
    fitting, allow = [], set()
    for pattern, methods in routes:
        segments = pattern.segments
        wild = segments[-1].startswith("*")
        if wild:
            rest = raw[len(segments) - 1 :]
            fits = len(raw) >= len(segments) and rest[0] != ""
            head, parts = segments[:-1], raw[: len(segments) - 1]
        else:
            fits, head, parts = len(raw) == len(segments), segments, raw
        pairs = list(zip(head, parts, strict=False))
        if not fits or any(part != unquote(text) if part[:1] != ":" else not text for part, text in pairs):
            continue
        declared = methods or ["GET"]
        if method in declared or (method == "HEAD" and "GET" in declared):
            values = [unquote(text) for part, text in pairs if part[:1] == ":"]
            if wild:
                values.append("/".join(unquote(text) for text in rest))
            rank = tuple({":": 1, "*": 2}.get(part[:1], 0) for part in segments)
            exact = method not in declared
            fitting.append((rank, exact, pattern.text, dict(zip(pattern.names, values, strict=True))))
        allow.update(declared)
        if "GET" in declared:
            allow.add("HEAD")
    if fitting:
        _, _, text, parameters = min(fitting, key=lambda found: found[:2])
        return text, parameters
    return MethodNotAllowed(tuple(sorted(allow))) if allow else None


@settings(max_examples=500)
@given(
    st.lists(st.tuples(PATTERNS, METHODS), max_size=8),
    st.lists(NAMES | st.just(""), max_size=5),
    st.sampled_from(["GET", "POST", "HEAD", "PUT"]),
)
def test_the_table_agrees_with_the_naive_matcher(declared, parts, method):
    routes, shapes = [], set()
    for text, methods in declared:
        pattern = RoutePattern.parse(text) if text == "/" or "//" not in text else None
        keys = {(pattern.shape, name) for name in methods or ["GET"]} if pattern else set()
        if pattern and not keys & shapes:
            shapes |= keys
            routes.append((pattern, methods))
    built = RouteTable((pattern, methods, pattern.text) for pattern, methods in routes)
    path = "/" + "/".join(part if part == "%2F" else quote(part) for part in parts)
    assert taken(built, path, method) == naive(routes, path, method)
