"""What one app tries on another through every tool: it reads, changes, spends and learns nothing.

`alpha` attacks, from its sandbox, with an API key and with a token. Each attack is made on `beta`, which has
everything worth stealing, and once more on `zeta`, which does not exist: the answers must be the same. A core
tool without attacks fails the first test.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from argon2 import PasswordHasher

from support.archive import Archive
from support.fake_llm import FakeLlm
from support.llm_desk import KEY as PROVIDER_KEY
from support.llm_desk import openai
from support.mcp_office import Office
from uhlp_core.tokens import Claims, TokenKey
from uhlp_state.git_repo import heads

SECRET = "only-beta-knows-this"
API_KEY = "key-of-alpha"
HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(API_KEY)
OWN_TOOL = {"name": "treasure", "description": SECRET, "component": "vault"}

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Victim:
    """Whom an attack names: `beta`, or somebody who is not there but would be called alike."""

    app: str
    home: str
    commit: str
    """Of its repo."""
    program: str
    """That it alone may run."""

    def names(self) -> Iterator[str]:
        """Of a value, a key or a component."""
        yield from (
            "secret", self.app, f"{self.app}:secret", f"{self.app}/secret", f"../{self.app}:secret",
            f":{self.app}:secret", f"uhlp:runtime:{self.app}:secret", f"@x:../{self.app}:secret",
            f"{self.app}@main", f"alpha@../{self.app}", f"alpha@{self.app}", f"secret@{self.app}",
            f"{self.app}.secret", "vault", f"{self.app}.vault", f"secret\0{self.app}", f"secret\n{self.app}",
            f"secret\r\nGET {self.app}", f"*{self.app}*", "ѕecret", "ｓｅｃｒｅｔ", "secret\u200b", "s\u00ad",
            f"\u202e{self.app}", f"{self.app}\u2024", "{" + self.app + "}", f"${{{self.app}}}", "'", '"',
        )  # fmt: skip

    def paths(self) -> Iterator[str]:
        """Of a file."""
        for inside in (f"data/{self.app}/secret", f"repos/{self.app}.git/HEAD", f"logs/{self.app}/app.log"):
            yield from (
                f"{self.home}/{inside}",
                f"../../{inside}",
                f"../../../{inside}",
                f"a/../../../{inside}",
            )
        yield from (
            "secret", f"../{self.app}/secret", f"..\\{self.app}\\secret", f"../{self.app}@main/secret",
            f"..%2f{self.app}%2fsecret", f"．．/{self.app}/secret", f"\u2024\u2024/{self.app}/secret",
            f"secret\0../{self.app}/secret", f"./../{self.app}/secret", f"//{self.app}/secret",
            f"../../{self.app}.git/state/secret", f"state/../../{self.app}.git/HEAD", f"~{self.app}/secret",
            f"/proc/self/cwd/{self.app}/secret", f"../{self.app}.git/refs/heads/main", f"{self.app}/" * 200,
        )  # fmt: skip

    def revisions(self) -> Iterator[str]:
        """Of a repo."""
        yield from (
            self.commit, self.commit[:12], f"{self.commit}^{{tree}}", f"../{self.app}.git/refs/heads/main",
            f"../../{self.app}.git/refs/heads/main", f"refs/heads/../../../{self.app}.git/refs/heads/main",
            f"{self.app}:main", f"proposals/{self.app}/1", f"refs/uhlp/applied/{self.app}",
            f"--git-dir={self.app}", f"main\0{self.app}", f"main\n{self.app}", "@{-1}", "HEAD", "packed-refs",
        )  # fmt: skip


def _each(
    name: str, values: Callable[[Victim], Iterator[str]], /, **more: Any
) -> Callable[[Victim], list[Arguments]]:
    """One call for each value of an argument."""
    return lambda victim: [{name: value, **more} for value in values(victim)]


def _all(*attacks: Callable[[Victim], list[Arguments]]) -> Callable[[Victim], list[Arguments]]:
    return lambda victim: [arguments for attack in attacks for arguments in attack(victim)]


def _writes(**more: Any) -> Callable[[Victim], list[Arguments]]:
    """Of a definition file: by path, and by branch."""
    own = {"commitMessage": "m", **more}
    return _all(
        _each("filePath", lambda victim: iter([path for path in victim.paths() if path != "secret"]), **own),
        _each("branch", Victim.revisions, filePath="notes/a.txt", **own),
        lambda victim: [{"filePath": "notes/a.txt", "branch": f"proposals/{victim.app}/1", **own}],
    )


def _models(victim: Victim) -> Iterator[str]:
    yield from (
        f"{victim.app}/m",
        f"p@{victim.app}/m",
        f"../{victim.app}/p/m",
        f"{victim.app}.p/m",
        f"p:{victim.app}",
    )


DIFF = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-one\n+two\n"
EDIT = {"filePath": "notes/a.txt", "commitMessage": "m"}
TO_BETA = {"appId": "beta", "deployment": "beta"}

ATTACKS: dict[str, Callable[[Victim], list[Arguments]]] = {
    "core.component.invoke": _each("componentId", Victim.names, input=TO_BETA),
    "core.filesystem.deleteFile": _each("path", Victim.paths),
    "core.filesystem.listDirectory": _each("path", Victim.paths),
    "core.filesystem.readFile": _each("path", Victim.paths),
    "core.filesystem.writeFile": _each("path", Victim.paths, content="x"),
    "core.framework.getConfigValue": _all(
        _each("key", Victim.names), _each("componentId", Victim.names, key="secret")
    ),
    "core.framework.logFrameworkMessage": _all(
        _each("componentId", Victim.names, level="info", message="m"),
        _each("message", Victim.names, level="info", details=TO_BETA),
        _each("requestId", Victim.names, level="info", message="m"),
    ),
    "core.linux.executeCommand": _all(
        lambda victim: [{"command": victim.program}, {"command": f"/usr/bin/../bin{victim.program[8:]}"}],
        _each("command", Victim.paths),
        lambda victim: [
            {"command": "/usr/bin/bash", "args": ["-c", f"cat {victim.home}/{path}"]}
            for path in (f"data/{victim.app}/secret", f"repos/{victim.app}.git/HEAD", "secrets/token-key")
        ],
    ),
    "core.llm.generate": _all(
        _each("model", _models, prompt="hi"),
        _each("promptName", Victim.names, prompt="hi"),
        lambda victim: [
            {"prompt": "hi", "parameters": {name: victim.app}}
            for name in ("user", "appId", "api_key", "base_url", "extra_headers")
        ],
    ),
    "core.state.applyDefinitionDiff": _all(
        _writes(diffContent=DIFF, expectedBaseRevision="main"),
        _each("expectedBaseRevision", Victim.revisions, diffContent=DIFF, **EDIT),
    ),
    "core.state.deleteDefinitionFile": _writes(),
    "core.state.deleteRuntimeValue": _each("key", Victim.names),
    "core.state.getDefinitionFileContent": _all(
        _each("filePath", Victim.paths), _each("revision", Victim.revisions, filePath="notes/a.txt")
    ),
    "core.state.getRuntimeValue": _each("key", Victim.names),
    "core.state.getStateValue": _all(
        _each("filePath", Victim.paths, valuePath=""),
        _each("revision", Victim.revisions, filePath="app_definition.yaml", valuePath="appId"),
        _each("valuePath", Victim.names, filePath="app_definition.yaml"),
    ),
    "core.state.incrementRuntimeValue": _each("key", Victim.names, amount=0),
    "core.state.listDefinitionDirectory": _all(
        _each("directoryPath", Victim.paths, recursive=True), _each("revision", Victim.revisions)
    ),
    "core.state.setDefinitionFileContent": _writes(content="x\n"),
    "core.state.setRuntimeValue": _each("key", Victim.names, value="of alpha"),
}  # fmt: skip
"""By core tool: the calls that alpha makes."""

FOREIGN = ("appId", "app", "deployment", "instance", "caller", "sub", "scopes", "_meta", "user", "__proto__")
"""Arguments that no tool has."""


@dataclass
class Battle:
    """Both apps, and what the attacker and the victims saw."""

    office: Office
    provider: FakeLlm
    alpha: Archive
    beta: Archive
    token: str
    invoked: list[Any] = field(default_factory=list)
    """What a gateway was asked to run."""

    def victims(self) -> tuple[Victim, Victim]:
        home = str(self.office.settings.home.root)
        return (
            Victim("beta", home, self.beta.start, "/usr/bin/jq"),
            Victim("zeta", home, "f" * 40, "/usr/bin/jz"),
        )

    async def ask(self, door: str, method: str, params: Arguments) -> Any:
        """The answer at one of alpha's doors."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        if door == "sandbox":
            status, answer = await self.office.post("a0", message)
        else:
            credential = API_KEY if door == "key" else self.token
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"{self.office.url}/alpha",
                    json=message,
                    headers={"Authorization": f"Bearer {credential}"},
                ) as response,
            ):
                status, answer = response.status, await response.json()
        assert status == 200
        return answer

    async def of_beta(self) -> Any:
        """Everything that beta has."""
        home, redis = self.office.settings.home, self.office.redis
        names = [name for name in sorted(await redis.keys("uhlp:*:beta*")) if b":alpha:" not in name]
        kept = {name: await redis.dump(name) for name in names}
        files = {
            str(path): path.read_bytes()
            for folder in (home.data / "beta", home.root / "logs" / "beta", home.root / "mcp" / "beta")
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        return kept, files, heads(self.beta.repo), sorted(os.listdir(home.data))


DOORS = ("sandbox", "key", "token")


@pytest.fixture
async def battle(office: Office, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Battle]:
    monkeypatch.setenv("UHLP_SECRET_BETA__KEY", PROVIDER_KEY)
    alpha, beta = Archive(office, "alpha"), Archive(office, "beta")
    keys = [{"keyHash": HASH, "permissions": ["mcp", "mcp:*"]}]
    token = TokenKey.of(office.settings.home).sign(Claims("alpha", "alpha"), 600)
    async with FakeLlm().serving() as provider:
        battle = Battle(office, provider, alpha, beta, token)
        await office.publish(
            "alpha", commit=alpha.start, keys_of_api=keys, definitionWrites="propose",
            llm=openai(provider.openai), commands={"allowed": [{"path": "/usr/bin/bash"}]},
        )  # fmt: skip
        await office.publish(
            "beta", commit=beta.start, keys_of_api=[], definitionWrites="propose", tools=[OWN_TOOL],
            configuration={"secret": SECRET}, llm=openai(provider.openai),
            commands={"allowed": [{"path": "/usr/bin/jq"}]},
        )  # fmt: skip
        await office.call("b0", "core.state.setRuntimeValue", key="secret", value=SECRET)
        await office.call("b0", "core.filesystem.writeFile", path="secret", content=SECRET)
        await office.call("a0", "core.filesystem.writeFile", path="own", content="alpha")
        await office.call("b0", "core.framework.logFrameworkMessage", level="info", message=SECRET)
        given = {"filePath": "secret", "content": SECRET, "commitMessage": SECRET}
        await office.call("b0", "core.state.setDefinitionFileContent", **given)

        async def invoke(request: web.BaseRequest) -> web.StreamResponse:
            battle.invoked.append(orjson.loads(await request.read()))
            problem = {"status": 404, "code": "COMPONENT_NOT_FOUND", "detail": "alpha has no such component"}
            return web.json_response(problem, status=404)

        gateway = web.Server(invoke)
        door = str(office.settings.home.gateways / "g.sock")
        server = await asyncio.get_running_loop().create_unix_server(gateway, door)
        try:
            yield battle
        finally:
            server.close()
            await gateway.shutdown(0.01)


async def test_every_core_tool_has_attacks_and_every_door_the_same_tools(battle: Battle) -> None:
    for door in DOORS:
        listed = (await battle.ask(door, "tools/list", {}))["result"]["tools"]
        assert [tool["name"] for tool in listed] == sorted(ATTACKS)


@pytest.mark.parametrize("tool", sorted(ATTACKS))
async def test_no_argument_reaches_another_app(battle: Battle, tool: str) -> None:
    before = await battle.of_beta()
    there, absent = battle.victims()
    for door in DOORS:
        for on_beta, on_zeta in zip(ATTACKS[tool](there), ATTACKS[tool](absent), strict=True):
            answers = []
            for victim, arguments in ((there, on_beta), (absent, on_zeta)):
                answer = await battle.ask(door, "tools/call", {"name": tool, "arguments": arguments})
                text = orjson.dumps(answer).decode()
                assert SECRET not in text, arguments
                assert PROVIDER_KEY not in text, arguments
                answers.append(_without_names(text, victim))
            assert answers[0] == answers[1], on_beta
    assert await battle.of_beta() == before
    assert {call["deployment"] for call in battle.invoked} <= {"alpha"}
    assert battle.provider.seen == []


@pytest.mark.parametrize("tool", sorted(ATTACKS))
async def test_no_tool_takes_an_argument_that_names_an_app(battle: Battle, tool: str) -> None:
    given = ATTACKS[tool](battle.victims()[0])[0]
    for name in FOREIGN:
        answer = await battle.ask(
            "sandbox", "tools/call", {"name": tool, "arguments": {**given, name: "beta"}}
        )
        assert answer["result"]["content"][0]["text"].startswith("INVALID_ARGUMENTS: "), name
    assert battle.invoked == battle.provider.seen == []


def _without_names(text: str, victim: Victim) -> str:
    """An answer without what the attacker itself named, made, or waited for."""
    for name in (victim.commit, victim.commit[:12], victim.commit[:7], victim.program[-3:], victim.app):
        text = text.replace(name, "…")
    return re.sub(r"proposals/alpha/\d+|[0-9a-f]{40}|durationMs[^0-9]+[0-9.]+", "…", text)
