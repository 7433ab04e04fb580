"""How one app reaches one of its servers: what its definition says, with secrets in place of references.

Exists in memory only. Nothing of it is logged or shown but the names.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from uhlp_core.ids import Deployment
from uhlp_core.secrets import SecretStore
from uhlp_mcp.community.errors import ServerUnavailable
from uhlp_mcp.community.registrations import Registrations
from uhlp_mcp.community.spellings import spellings
from uhlp_mcp.intake import Limits
from uhlp_state.model import AllowedMcpServer, McpServer
from uhlp_state.model.mcp_servers import SECRET
from uhlp_state.snapshot import AppSnapshot

MESSAGE = Limits(4 * 1024 * 1024, max_values=65_536, base_weight=8192, value_weight=64)
"""Of one message from a server: as many bytes as our own door takes, and values that are read in some 50 ms.
Two thousand small ones a second are more than any server has to tell."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A server with all that is needed to talk to it."""

    deployment: str
    name: str
    seconds: float
    """That a call may take."""
    program: AllowedMcpServer | None
    """What is run; None where `url` is called."""
    url: str
    arguments: tuple[str, ...] = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    """All ways to write the secrets that it is given, the longest first."""

    @property
    def app(self) -> str:
        """Whose server it is."""
        return Deployment.parse(self.deployment).app

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"the MCP server {self.name} of {self.deployment}"

    def version(self) -> str:
        """Another one for every change of definition, address or secret: a session serves one only."""
        parts = [
            self.program.to_json() if self.program else None,
            self.url,
            self.arguments,
            dict(self.variables),
            dict(self.headers),
        ]
        return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def redacted(self, text: str) -> str:
        """A text that may be shown: without the secrets that the server was given."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    def redacted_end(self, text: str) -> str:
        """As `redacted`, for the end of a longer text: without what is left of a secret at its beginning."""
        left = max(
            (
                size
                for secret in self.secrets
                for size in range(1, len(secret) + 1)
                if text.startswith(secret[-size:])
            ),
            default=0,
        )
        return self.redacted(text[left:])


class Connections:
    """Makes connections from what is served."""

    def __init__(self, secrets: SecretStore, registrations: Registrations) -> None:
        self._secrets = secrets
        self._registrations = registrations

    async def connection(self, snapshot: AppSnapshot, deployment: str, name: str) -> Connection:
        """Raises ServerUnavailable where nobody has registered, or the app sets a variable that it may not or
        sends secrets to who registers, and what `SecretStore.resolve` raises.
        """
        server = snapshot.definition.mcp_servers[name]
        program = snapshot.mcp_programs[server.command] if server.command is not None else None
        # Both are checked at the push, too; what is served may be older than that.
        if program is not None and (wrong := program.not_settable(server)):
            raise ServerUnavailable(
                f"the MCP server {name} of {deployment} cannot be used: the platform lets no app set "
                f"{', '.join(wrong)} for it; remove that from its `env`, or have it added to "
                f"allowedMcpServers.{server.command}.env in the platform's state/platform.yaml"
            )
        if server.registers and _has_secrets(server):
            raise ServerUnavailable(
                f"the MCP server {name} of {deployment} cannot be used: whoever may register it would be "
                "sent the secrets in its `headers`; remove them, or give it a `url` in place of "
                "`register: true`"
            )
        url = server.url or ""
        if server.registers:
            url = await self._registrations.url(deployment, name)
            if not url:
                raise ServerUnavailable(
                    f"no server has registered as {name} of {deployment}; it does so with POST /mcp/register"
                )
        # The sources of secrets are files, programs and servers, which block.
        return await asyncio.to_thread(self._resolved, deployment, name, server, program, url)

    def _resolved(
        self, deployment: str, name: str, server: McpServer, program: AllowedMcpServer | None, url: str
    ) -> Connection:
        app = Deployment.parse(deployment).app
        used: set[str] = set()

        def value(text: str) -> str:
            if not text.startswith(SECRET):
                return text
            secret = self._secrets.resolve(app, text)
            used.add(secret)
            return secret

        return Connection(
            deployment,
            name,
            server.timeout_seconds,
            program,
            url,
            tuple(value(text) for text in server.args),
            {key: value(text) for key, text in server.env.items()},
            {key: value(text) for key, text in server.headers.items()},
            spellings(used),
        )


def _has_secrets(server: McpServer) -> bool:
    values = (*server.args, *server.env.values(), *server.headers.values())
    return any(value.startswith(SECRET) for value in values)
