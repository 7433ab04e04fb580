"""Turn a handler's result into JSON, strictly: what is not JSON is refused, with the path to it.

Part of the interpreter mode's boot path, hence no `json` (which imports `re` and `enum`): the encoder is
the C one that `json` itself uses, or `orjson` where this interpreter has been given it. Both accept more
than JSON has (NaN, keys that are numbers, dates), each something else, so the value is checked first and
every mode refuses the same things.
"""

from _json import encode_basestring, make_encoder

from .failure import RESULT_NOT_SERIALISABLE, Failure

try:
    from orjson import dumps as _orjson_dumps
except ImportError:
    _orjson_dumps = None  # type: ignore[assignment]

DEPTH_LIMIT = 200
"""How deep a result may nest. Below what either encoder bears, so that both modes refuse the same."""

_INFINITY = float("inf")
# No function for values it does not know: `_check` lets none through.
_encode = make_encoder(None, None, encode_basestring, None, ":", ",", False, False, False)  # type: ignore[arg-type]


def dumps(value: object) -> bytes:
    """The JSON text of `value`.

    Raises Failure(RESULT_NOT_SERIALISABLE) naming the path inside the value and the type found there.
    """
    _check(value, DEPTH_LIMIT, "result")
    if _orjson_dumps is not None:
        try:
            return _orjson_dumps(value)
        except TypeError:
            pass  # An integer of more than 64 bits: JSON has it, orjson has not.
    try:
        return "".join(_encode(value, 0)).encode()
    except UnicodeEncodeError as error:
        raise Failure(RESULT_NOT_SERIALISABLE, f"result: text that is not Unicode ({error.reason})") from None


def _check(value: object, depth: int, path: str) -> None:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return
    if kind is float:
        # Not `isfinite`: a comparison is cheaper than a call, and NaN fails it too.
        if not -_INFINITY < value < _INFINITY:  # type: ignore[operator]
            raise _refused(path, f"{value} is not a JSON number")
        return
    if depth == 0:
        raise _refused(path[:200], f"nested deeper than {DEPTH_LIMIT}, or it contains itself")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _refused(path, f"the key {key!r:.60} is {type(key).__name__}, and JSON keys are str")
            kind = type(item)
            if kind is not str and kind is not int:
                _check(item, depth - 1, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            kind = type(item)
            if kind is not str and kind is not int:
                _check(item, depth - 1, f"{path}[{index}]")
    elif not isinstance(value, (str, int)):
        if isinstance(value, float):
            _check(float(value), depth, path)
        else:
            raise _refused(
                path, f"{kind.__name__} is not JSON; return dict, list, str, int, float, bool or None"
            )


def _refused(path: str, why: str) -> Failure:
    return Failure(RESULT_NOT_SERIALISABLE, f"{path}: {why}")
