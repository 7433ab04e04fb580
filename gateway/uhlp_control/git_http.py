"""Git's smart HTTP protocol (`git help gitprotocol-http`): streams between clients and the Git programs.

The pack is never held here: bytes go from the client to `git receive-pack`, and from `git upload-pack` to
the client, as fast as both sides take them.
"""

import asyncio
import logging
import re
from pathlib import Path

from aiohttp import web

from uhlp_control.body import IDLE_SECONDS, BodyError, plain_body
from uhlp_control.git_process import GitProcess, Service
from uhlp_control.guards import PUSHER, REQUEST_ID, text_response
from uhlp_control.new_apps import NewApps
from uhlp_core.errors import InvalidInput
from uhlp_core.ids import PLATFORM_APP, is_app_id
from uhlp_core.settings import Settings

MAX_PROCESSES = 16
"""Git processes at once; more requests wait for a place."""
MAX_COMMANDS_BYTES = 1024 * 1024
"""Of a push besides its pack: the list of ref updates."""
MAX_FETCH_BYTES = 32 * 1024 * 1024
"""Of a fetch's request: some 600,000 wants and haves."""

SERVICES: dict[str, Service] = {
    "git-upload-pack": "git-upload-pack",
    "git-receive-pack": "git-receive-pack",
}
_PROTOCOL = re.compile(r"[a-z]+=[a-z0-9.]+(:[a-z]+=[a-z0-9.]+){0,3}")
_NO_CACHE = {
    "Cache-Control": "no-cache, max-age=0, must-revalidate",
    "Expires": "Fri, 01 Jan 1980 00:00:00 GMT",
    "Pragma": "no-cache",
}

_log = logging.getLogger(__name__)


class GitHttp:
    """The handlers below `/git/<app>.git/`."""

    def __init__(self, settings: Settings, new_apps: NewApps) -> None:
        self._home = settings.home
        self._max_push = settings.max_push_bytes + MAX_COMMANDS_BYTES
        self._new_apps = new_apps
        self._places = asyncio.Semaphore(MAX_PROCESSES)

    def routes(self) -> list[web.RouteDef]:
        """What to add to the application."""
        return [
            web.get("/git/{app}.git/info/refs", self.advertise, allow_head=False),
            web.post("/git/{app}.git/{service:git-(?:upload|receive)-pack}", self.exchange),
            web.route("*", "/git/{rest:.*}", _nothing_else),
        ]

    async def advertise(self, request: web.Request) -> web.StreamResponse:
        """The first request of every clone, fetch and push: which refs there are."""
        service = SERVICES.get(request.query.get("service", ""))
        if service is None:
            return text_response(
                403, "only Git's smart HTTP protocol is served: use a Git client of version 1.6.6 or newer"
            )
        app = request.match_info["app"]
        if service == "git-receive-pack":
            if not (self._home.hooks / "pre-receive").exists():
                return text_response(503, "the hooks are not installed yet: pushes would not be validated")
            try:
                await asyncio.to_thread(self._new_apps.create, app)
            except InvalidInput as error:
                return text_response(403, str(error))
        repo = self._repo(app)
        if repo is None:
            return _no_such_app(app)
        protocol = _protocol(request, service)
        # Protocol version 2 starts with the capabilities; the older ones name the service first.
        opening = b"" if "version=2" in protocol.split(":") else _service_line(service)
        with self._new_apps.using(app):
            return await self._run(
                request, service, ["--advertise-refs"], repo, f"{service}-advertisement", opening
            )

    async def exchange(self, request: web.Request) -> web.StreamResponse:
        """The pack and what is said about it, in both directions."""
        service = SERVICES[request.match_info["service"]]
        if request.content_type != f"application/x-{service}-request":
            return text_response(415, f"expected Content-Type application/x-{service}-request")
        app = request.match_info["app"]
        repo = self._repo(app)
        if repo is None:
            return _no_such_app(app)
        with self._new_apps.using(app):
            return await self._run(request, service, [], repo, f"{service}-result", b"")

    def _repo(self, app: str) -> Path | None:
        """The repo of an app that exists. Only what may be a name ever becomes part of a path."""
        if app != PLATFORM_APP and not is_app_id(app):
            return None
        repo = self._home.repo(app)
        return repo if (repo / "HEAD").exists() else None

    async def _run(
        self,
        request: web.Request,
        service: Service,
        arguments: list[str],
        repo: Path,
        content: str,
        opening: bytes,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={**_NO_CACHE, "X-Request-ID": request[REQUEST_ID]})
        response.content_type = f"application/x-{content}"
        limit = self._max_push if service == "git-receive-pack" else MAX_FETCH_BYTES
        protocol, pusher = _protocol(request, service), request[PUSHER]
        async with self._places:
            process = await GitProcess.start(service, arguments, repo, protocol=protocol, pusher=pusher)
            async with process:
                feeding = asyncio.create_task(_feed(request, process, limit))
                try:
                    async for chunk in process.output():
                        if not response.prepared:
                            await response.prepare(request)
                            await response.write(opening)
                        async with asyncio.timeout(IDLE_SECONDS):
                            await response.write(chunk)
                    await feeding
                except BodyError as error:
                    return await _broken_off(request, response, error.status, str(error))
                except TimeoutError:
                    return await _broken_off(request, response, 408, "the answer was not read in time")
                finally:
                    feeding.cancel()
                    await asyncio.gather(feeding, return_exceptions=True)
                code, words = await process.result()
        if code:
            # For a push or fetch that Git itself refuses, the client has been told in the stream.
            _log.info(
                "%s ended with %d: %s",
                service,
                code,
                words,
                extra={"app": repo.name.removesuffix(".git"), "requestId": request[REQUEST_ID]},
            )
        if not response.prepared:
            if code:
                text = f"{service} failed; the platform's log tells why"
                return await _broken_off(request, response, 500, text)
            # A client that is about to send much tries first with nothing: the answer is empty too.
            await response.prepare(request)
        await response.write_eof()
        return response


async def _feed(request: web.Request, process: GitProcess, limit: int) -> None:
    try:
        async for chunk in plain_body(request, limit):
            await process.write(chunk)
    except BaseException:
        # Nothing complete has reached Git; when it ends, so does the loop that waits for its answer.
        process.abort()
        raise
    process.close_input()


async def _broken_off(
    request: web.Request, response: web.StreamResponse, status: int, text: str
) -> web.StreamResponse:
    if not response.prepared:
        return text_response(status, text, {"Connection": "close"})
    # Half an answer is out: only a closed connection says that the rest is missing.
    if request.transport is not None:
        request.transport.close()
    return response


async def _nothing_else(request: web.Request) -> web.StreamResponse:
    return text_response(404, "there is nothing here; repos are at /git/<app>.git")


def _no_such_app(app: str) -> web.Response:
    return text_response(404, f"there is no app {app[:60]!r}; the first push creates it")


def _service_line(service: Service) -> bytes:
    line = f"# service={service}\n"
    return f"{len(line) + 4:04x}{line}0000".encode()


def _protocol(request: web.Request, service: Service) -> str:
    """The Git-Protocol header where it is well-formed; pushes know no version 2."""
    asked = request.headers.get("Git-Protocol", "")
    return asked if service == "git-upload-pack" and _PROTOCOL.fullmatch(asked) else ""
