"""What of a call's arguments goes out to a provider: a list that policies look through, and put back again.

Only what is free text or data: the names of arguments and parameters are form, and not for a rule to change.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from uhlp_mcp.llm.errors import BadRequest
from uhlp_policies.chain import PolicyDenied
from uhlp_state.yaml_source import MAX_DEPTH

_TEXTS = ("system", "prompt")


def going_out(given: dict[str, Any]) -> list[Any]:
    """All that a provider sees of a call: texts, values of parameters, model, and every piece of the schema.

    Raises BadRequest for what is nested too deeply.
    """
    return [
        *(given[name] for name in _TEXTS if name in given),
        *(message["content"] for message in given.get("messages", ())),
        *(_plain(name, value) for name, value in given.get("parameters", {}).items()),
        *_fixed(given),
    ]


def put_back(given: dict[str, Any], asked: list[Any], checked: list[Any]) -> dict[str, Any]:
    """The call with what policies made of what it asked, which is `going_out(given)`.

    Raises PolicyDenied if they would change the model's name or the schema: others would be meant then.
    """
    rest = iter(checked)
    changed: dict[str, Any] = {name: next(rest) for name in _TEXTS if name in given}
    if "messages" in given:
        changed["messages"] = [{**message, "content": next(rest)} for message in given["messages"]]
    if "parameters" in given:
        changed["parameters"] = {name: next(rest) for name in given["parameters"]}
    fixed = list(rest)
    if fixed != asked[len(asked) - len(fixed) :]:
        raise PolicyDenied(
            "a policy redacts something in the model's name or in the outputSchema, which would make it "
            "another: take out of it what must not leave the platform"
        )
    return {**given, **changed}


def _fixed(given: Mapping[str, Any]) -> Iterator[Any]:
    """What goes out, and is not there to be changed."""
    if "model" in given:
        yield given["model"]
    yield from _pieces(given.get("outputSchema"))


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, dict) or (
        isinstance(value, list) and any(isinstance(item, dict | list) for item in value)
    ):
        raise BadRequest(
            f"the parameter {name[:60]!r} must be a text, a number, true, false, or a list of such"
        )
    return value


def _pieces(schema: Any) -> Iterator[Any]:
    """Every key and every plain value: each is data that leaves, and counts for a rule on size."""
    level = [schema]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                yield from value
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif value is not None:
                yield value
        if not below:
            return
        level = below
    raise BadRequest(f"the outputSchema is nested deeper than {MAX_DEPTH} levels")
