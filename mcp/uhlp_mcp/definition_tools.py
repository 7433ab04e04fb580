"""The `core.state.*` tools that change an app's definition (specification 3.3.3), always as a proposal.

Whether the app's own code may propose at all is what production says: a preview, whose code nobody has
reviewed, cannot give itself leave. Nothing in here can move `main`.
"""

import re
from typing import Any

from uhlp_core.errors import NotFound, UhlpError
from uhlp_mcp.schema import BOOLEAN, Schema, of, text
from uhlp_mcp.served import Served
from uhlp_mcp.state_tools import PATH
from uhlp_mcp.tools import Caller, Tool
from uhlp_state.checks.tree import MAX_DEFINITION_BYTES
from uhlp_state.model import DefinitionWrites
from uhlp_state.proposals import Proposal
from uhlp_state.state_manager import StateManager

MAX_MESSAGE = 4096
"""Characters of a commit message."""

MAX_NAME = 256
"""Characters of a branch, a revision, or an author."""

_CONTENT = text(MAX_DEFINITION_BYTES)
_WHY = text(MAX_MESSAGE, 1, pattern="\\S", description="The commit message: why the change is needed.")
_OPTIONAL: dict[str, Schema] = {
    "author": text(MAX_NAME, description="Whom the commit message names as the one who asked for it."),
    "branch": text(MAX_NAME, 1, description="A proposal of yours to add to; without it, a new one."),
}
_RESULT = of({"success": BOOLEAN, "resultingRevision": text(64), "branch": text(MAX_NAME)})


class WritesRefused(UhlpError):
    """The app does not let its code change its definition."""

    code = "DEFINITION_WRITES_REFUSED"


class DefinitionTools:
    """Handlers of the tools."""

    def __init__(self, manager: StateManager, served: Served) -> None:
        self._manager = manager
        self._served = served

    def tools(self) -> tuple[Tool, ...]:
        return (
            Tool(
                "core.state.applyDefinitionDiff",
                "Propose a change of a definition file as a unified diff against a revision that you read.",
                of(
                    {
                        "filePath": PATH,
                        "diffContent": _CONTENT,
                        "expectedBaseRevision": text(MAX_NAME, 1),
                        "commitMessage": _WHY,
                    },
                    _OPTIONAL,
                ),
                _RESULT,
                self._apply,
                blocking=True,
            ),
            Tool(
                "core.state.setDefinitionFileContent",
                "Propose a definition file's whole content, whatever is there; a diff is safer for changes.",
                of({"filePath": PATH, "content": _CONTENT, "commitMessage": _WHY}, _OPTIONAL),
                _RESULT,
                self._set,
                blocking=True,
            ),
            Tool(
                "core.state.deleteDefinitionFile",
                "Propose to delete a definition file.",
                of({"filePath": PATH, "commitMessage": _WHY}, _OPTIONAL),
                _RESULT,
                self._delete,
                blocking=True,
            ),
        )

    async def _apply(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        made = await self._manager.apply_definition_diff(
            caller.app,
            given["filePath"],
            given["diffContent"],
            given["expectedBaseRevision"],
            _message(caller, given),
            _author(caller),
            branch=await self._proposal(caller, given),
        )
        return made.to_json()

    async def _set(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        made = await self._manager.set_definition_file_content(
            caller.app,
            given["filePath"],
            given["content"],
            _message(caller, given),
            _author(caller),
            branch=await self._proposal(caller, given),
        )
        return made.to_json()

    async def _delete(self, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        made = await self._manager.delete_definition_file(
            caller.app,
            given["filePath"],
            _message(caller, given),
            _author(caller),
            branch=await self._proposal(caller, given),
        )
        return made.to_json()

    async def _proposal(self, caller: Caller, given: dict[str, Any]) -> Proposal:
        """Where the caller may write. Raises WritesRefused, NotFound, or Unavailable."""
        production = await self._served.snapshot(caller.app)
        if production.definition.definition_writes is not DefinitionWrites.PROPOSE:
            raise WritesRefused(
                f"{caller.app} does not let its code change its definition: a person can allow it with "
                "`definitionWrites: propose` in state/app_definition.yaml on main"
            )
        new = Proposal(caller.component or caller.app)
        branch = given.get("branch")
        if branch is None:
            return new
        number = branch.removeprefix(new.prefix)
        if number == branch or not re.fullmatch(r"[1-9][0-9]{0,8}", number):
            raise NotFound(f"{branch[:80]!r} is no proposal of yours: they are named {new.prefix}<number>")
        return Proposal(new.name, int(number))


def _author(caller: Caller) -> str:
    """In the commit: which component of which app, in which sandbox."""
    who = f"{caller.app}/{caller.component}" if caller.component else caller.app
    return f"{who} <{caller.instance or 'outside'}@{caller.deployment}>"


def _message(caller: Caller, given: dict[str, Any]) -> str:
    """The message, and where it came from. The trailers come last, so no message can forge them."""
    trailers = {
        "Proposed-for": given.get("author", ""),
        "Deployment": caller.deployment,
        "Component": caller.component,
        "Request": caller.request_id,
        "User": caller.user,
    }
    lines = (f"{name}: {' '.join(value.split())}" for name, value in trailers.items() if value)
    return f"{given['commitMessage'].rstrip()}\n\n" + "\n".join(lines)
