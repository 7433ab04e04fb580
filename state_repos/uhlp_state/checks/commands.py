"""Programs that an app allows itself: only what the platform allows apps, and hosts by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from uhlp_state.checks.parts import Files, Part
from uhlp_state.model import AppDefinition
from uhlp_state.platform import PlatformDefinition
from uhlp_state.problems import NEARLY, Code, closest, quoted
from uhlp_state.yaml_source import YamlPath

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_ALLOWED: YamlPath = ("commands", "allowed")
_ASK = "remove it, or have it added to allowedCommands in the platform's state/platform.yaml"


def check_commands(files: Files, definition: Part[AppDefinition], platform: PlatformDefinition) -> None:
    """Check `commands.allowed` of an app against the platform."""
    for index, command in enumerate(definition.model.commands.allowed):
        place = (*_ALLOWED, index, "path")
        if command.path not in platform.allowed_commands:
            message = f"the program {quoted(command.path)} is not allowed on this platform"
            remedy = _remedy(command.path, platform.allowed_commands)
            files.problems.append(definition.problem(place, Code.COMMAND_NOT_ALLOWED, message, remedy))
        for position, host in enumerate(command.hosts):
            if _HOST.fullmatch(host) is None:
                message = f"{quoted(host)} is not the name of a host"
                remedy = "write a name in lower case such as api.example.org, without scheme, port or path"
                files.problems.append(
                    definition.problem((*_ALLOWED, index, "hosts", position), Code.BAD_VALUE, message, remedy)
                )


def _remedy(path: str, allowed: Iterable[str]) -> str:
    """Folders are much the same in all paths, so it is the programs' own names that tell one from another."""
    by_name = {known.rpartition("/")[2]: known for known in allowed}
    close = closest(path.rpartition("/")[2], by_name, NEARLY)
    return f"did you mean {quoted(by_name[close])}? Else {_ASK}" if close else _ASK
