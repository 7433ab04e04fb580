"""`uhlp call`: one request to an app through the gateway, as any client would send it."""

import http.client
import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click

from uhlp_cli.frame import Command, ExitCode, Invocation
from uhlp_cli.live import addresses
from uhlp_core.errors import Unavailable
from uhlp_core.ids import Deployment

TIMEOUT_SECONDS = 1000
"""Longer than any handler's limit: the gateway's own answer to a slow handler must arrive first."""

_METHOD = re.compile(r"[A-Za-z]{1,20}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_URL_CHARACTERS = "/?&=:@!$'()*+,;%~"
"""What a path and query may hold as they are; the rest (spaces, umlauts) is percent-encoded."""


@click.command("call", cls=Command)
@click.argument("app")
@click.argument("method")
@click.argument("path")
@click.option(
    "-d", "--data", metavar="BODY", help="The request's body: text, @FILE, or - for standard input."
)
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A request header.")
@click.option("--preview", metavar="NAME", help="Call the app's preview NAME instead of production.")
@click.option("-i", "-v", "--include", is_flag=True, help="Show status and headers on standard error.")
@click.pass_obj
def call(
    invocation: Invocation,
    app: str,
    method: str,
    path: str,
    data: str | None,
    headers: tuple[str, ...],
    preview: str | None,
    include: bool,
) -> None:
    """Send METHOD PATH to APP and print the answer's body: `uhlp call notes GET /api/notes`.

    A body that is JSON is sent with that content type unless a header says otherwise.
    Exits with 4 if the app answered 4xx, with 5 for 5xx.

    With --json: {status, headers, body}; the body is parsed if it is JSON.
    """
    if not _METHOD.fullmatch(method):
        raise click.BadParameter(f"{method!r} is no HTTP method", param_hint="METHOD")
    deployment = Deployment.parse(app if preview is None else f"{app}@{preview}")
    body = None if data is None else _body(data)
    gateway = urlsplit(addresses(invocation.settings).gateway)
    target = f"/apps/{deployment.id}/{quote(path.lstrip('/'), safe=_URL_CHARACTERS)}"
    connection = http.client.HTTPConnection(
        gateway.hostname or "localhost", gateway.port or 80, timeout=TIMEOUT_SECONDS
    )
    try:
        connection.request(method.upper(), target, body, _headers(headers, body))
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(
            f"the gateway at {gateway.netloc} does not answer ({error}): start the platform with `uhlp up`"
        ) from None
    finally:
        connection.close()
    _print(invocation, answer, content, include)
    if answer.status >= 500:
        sys.exit(ExitCode.SERVER_ERROR)
    if answer.status >= 400:
        sys.exit(ExitCode.CLIENT_ERROR)


def _body(data: str) -> bytes:
    if data == "-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        try:
            return Path(data[1:]).read_bytes()
        except OSError as error:
            raise click.BadParameter(
                f"{data[1:]} cannot be read: {error.strerror}", param_hint="-d"
            ) from None
    return data.encode()


def _headers(given: tuple[str, ...], body: bytes | None) -> dict[str, str]:
    headers: dict[str, str] = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not _HEADER_NAME.fullmatch(name.strip()) or not value.strip().isprintable():
            raise click.BadParameter(f"{text!r}: write NAME: VALUE, on one line", param_hint="-H")
        headers[name.strip()] = value.strip()
    if body and "content-type" not in {name.lower() for name in headers} and _parsed(body) is not None:
        headers["Content-Type"] = "application/json"
    return headers


def _print(invocation: Invocation, answer: http.client.HTTPResponse, content: bytes, include: bool) -> None:
    parsed = _parsed(content)
    if include:
        click.echo(f"{answer.status} {answer.reason}", err=True)
        for name, value in answer.getheaders():
            click.echo(f"{name}: {value}", err=True)
        click.echo(err=True)
    if invocation.json:
        body = content.decode(errors="replace") if parsed is None else parsed
        invocation.answer({"status": answer.status, "headers": dict(answer.getheaders()), "body": body}, "")
    elif parsed is not None and sys.stdout.isatty():
        click.echo(json.dumps(parsed, ensure_ascii=False, indent=2))
    else:
        click.echo(content, nl=sys.stdout.isatty())


def _parsed(content: bytes) -> Any:
    """The JSON value in `content`; None if it is not JSON (or null)."""
    try:
        return json.loads(content)
    except ValueError:
        return None
