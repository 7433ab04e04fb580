"""The `platform` repo: what holds for all apps, declared in Git like the apps themselves."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from uhlp_state.checks.parts import Files
from uhlp_state.checks.tree import check_tree
from uhlp_state.checks.unread import check_unread
from uhlp_state.mcp_programs import shipped_mcp_servers
from uhlp_state.model.base import AppIdText, Count, Model, Name, refusal
from uhlp_state.model.commands import HARDENED
from uhlp_state.model.mcp_servers import AllowedMcpServer, ServerName
from uhlp_state.model.mounts import Mount, MountText
from uhlp_state.model.policies import Policy, ShippedPolicy
from uhlp_state.parse_cache import ParseCache
from uhlp_state.problems import Code, Problem, quoted
from uhlp_state.tree_source import TreeSource

PLATFORM_FILE = "state/platform.yaml"


class SuspendedApp(Model):
    """An app that is not served."""

    app_id: AppIdText
    """The app's id."""
    reason: str = ""
    """Why, for its owners."""
    since: str = ""
    """When, as an ISO 8601 time."""


class Quotas(Model):
    """What one platform, and one app on it, may have."""

    max_apps: Count = Field(default=1000, ge=0)
    """Apps on the platform. Default 1,000."""
    max_instances_per_app: Count = Field(default=64, ge=1)
    """Sum of the maxInstances of an app's pools. Default 64."""
    max_pools_per_app: Count = Field(default=16, ge=1)
    """Pools of one app. Default 16."""


class PlatformDefinition(Model):
    """The platform (`state/platform.yaml`). Every key is optional."""

    suspended_apps: tuple[SuspendedApp, ...] = ()
    """Apps that are not served."""
    quotas: Quotas = Quotas()
    """Upper bounds."""
    allowed_images: tuple[Name, ...] | None = None
    """Images that pools may name, besides the default one. Without this key any image is allowed."""
    allowed_mounts: tuple[MountText, ...] = ()
    """Volume mounts that pools may name, as `host:container[:ro|rw]`; one with `:rw` allows reading only as
    well. Default none."""
    allowed_commands: tuple[Name, ...] = HARDENED
    """Programs that apps may allow themselves, by absolute path. Default those that are run with checked
    arguments; any other gets the arguments that it is given."""
    allowed_mcp_servers: dict[ServerName, AllowedMcpServer] = Field(default_factory=dict)
    """Programs that apps may run as MCP servers, by name, besides `clock`, which comes with UHLP."""
    shipped_policies: tuple[ShippedPolicy, ...] = (ShippedPolicy.SECRETS,)
    """Policies that come with UHLP and hold for every app: `secrets`, `personal-data`. Default `secrets`."""
    policies: dict[Name, Policy] = Field(default_factory=dict)
    """Policies by name that hold for every app, before its own."""

    @property
    def mcp_programs(self) -> dict[str, AllowedMcpServer]:
        """All programs that apps may use as MCP servers, by name."""
        return {**shipped_mcp_servers(), **self.allowed_mcp_servers}

    @model_validator(mode="after")
    def _check_mounts(self) -> Self:
        mounts = [(text, Mount.parse(text)) for text in self.allowed_mounts]
        for outer, writable in mounts:
            for inner, mount in mounts:
                if writable.endangers(mount):
                    message = f"{quoted(inner)} lies inside {quoted(outer)}, which handlers may write to"
                    remedy = "make the outer one :ro, or mount folders that lie side by side"
                    raise refusal(Code.BAD_MOUNT, message, remedy)
        return self


def validate_platform(
    source: TreeSource, *, cache: ParseCache | None = None
) -> tuple[PlatformDefinition | None, list[Problem]]:
    """Check the platform repo: the definition (None iff there are problems), and every problem."""
    entries = source.entries()
    problems = check_tree(entries)
    if any(not problem.file for problem in problems):
        return None, problems
    files = Files(source, entries, {problem.file for problem in problems}, cache or ParseCache())
    definition = PlatformDefinition()
    if PLATFORM_FILE in files and (part := files.model(PLATFORM_FILE, PlatformDefinition)):
        definition = part.model
    check_unread(files, (PLATFORM_FILE,), {})
    for path in files.under("state/policies/", ".yaml", ".yml"):
        message = "policies that hold for every app are not read from files of their own"
        remedy = f"write it under `policies` in {PLATFORM_FILE}"
        files.problems.append(Problem(path, 1, 1, Code.FILE_NOT_READ, message, remedy))
    for path in files.under("state/", ".yaml", ".yml"):
        files.check_yaml(path)
    problems = sorted(problems + files.problems)
    return (None if problems else definition), problems
