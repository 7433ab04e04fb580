"""Run one handler on one request, and turn whatever it does into the answer of specification 2.4.

The same in every mode: a persistent worker calls it for each request, the child of a fork or a fresh
interpreter once. It knows nothing of sockets and processes but this: it runs in the main thread, where
signals are raised, and a copy of the process that the handler forked off never gets past it.

Part of the interpreter mode's boot path, hence `_signal` and `posix` (`signal` imports `enum`, `os` much of
`collections`), and what only a failure needs is imported when one happens.
"""

import posix
import sys
from _signal import ITIMER_REAL, SIGALRM, SIGUSR1, setitimer, signal  # type: ignore[import-not-found]
from errno import EAGAIN
from time import monotonic, perf_counter

from . import failure
from .failure import Failure
from .strict import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import Any

    from .loading import Loader

TIMEOUT_REPEAT_SECONDS = 0.1
"""How soon a handler that caught its timeout is interrupted again, until it is killed."""

MESSAGE_LIMIT = 500
"""Characters of an exception's text that go into the answer; the log has the whole traceback."""


current_context: "dict[str, Any]" = {}
"""Of the request that runs, for an SDK that is only imported while it does."""


async def _coroutine() -> None: ...


_probe = _coroutine()
_CoroutineType = type(_probe)
_probe.close()


_BODY = b'{"requestId":"%b","resultType":"%b","data":%b,"metrics":{"execution_time_ms":%.3f,"mcp_calls":%b}}'


class Interrupted(BaseException):
    """Raised inside a handler to stop it. Not an Exception, so that `except Exception` lets it pass."""


class Invoker:
    """Runs handlers one at a time, and keeps the event loop of the asynchronous ones."""

    def __init__(self, loader: "Loader", output_limit: int, timeout_ms: float) -> None:
        self._loader = loader
        self._output_limit = output_limit
        self._timeout_ms = timeout_ms
        self._loop: AbstractEventLoop | None = None
        self._deadline = 0.0  # monotonic seconds; 0 while no handler runs
        self._alarm_at = 0.0  # monotonic seconds at which SIGALRM comes; 0 if none is set
        self._is_cancelled: Callable[[], bool] = _never
        self._is_copy: Callable[[], bool] = _never

    def install(
        self,
        is_cancelled: "Callable[[], bool] | None" = None,
        is_copy: "Callable[[], bool] | None" = None,
    ) -> None:
        """Make this process interruptible: SIGALRM is its timeout, SIGUSR1 the loss of its client.

        `is_cancelled` is asked at a SIGUSR1 whether the request that runs *now* is the one meant. `is_copy`
        tells whether this process was forked off by a handler; by default its pid tells.
        """
        if is_cancelled is not None:
            self._is_cancelled = is_cancelled
        own = posix.getpid()
        self._is_copy = is_copy or (lambda: posix.getpid() != own)
        signal(SIGALRM, self._on_alarm)
        signal(SIGUSR1, self._on_alarm)

    def answer(self, request: "dict[str, Any]") -> tuple[int, bytes]:
        """Run the handler `request` names: HTTP status and body of the answer. Raises nothing."""
        global current_context
        current_context = context = request["context"]
        context["requestId"] = request["requestId"]
        expected = context.get("expectedResultFormat")
        sdk = sys.modules.get("uhlp_sdk")
        if sdk is not None:
            sdk._begin(context)
        began = perf_counter()
        try:
            kind, data = shape(self._call(request, context), expected)
            encoded = dumps(data)
            if len(encoded) > self._output_limit:
                raise failure.too_much_output(self._output_limit)
        except Failure as failed:
            return 500, failure_body(request["requestId"], failed, perf_counter() - began, _calls())
        except MemoryError:
            return 500, failure_body(request["requestId"], failure.out_of_memory(), perf_counter() - began)
        return 200, _BODY % (
            request["requestId"].encode(),
            kind,
            encoded,
            (perf_counter() - began) * 1000,
            _calls(),
        )

    def _call(self, request: "dict[str, Any]", context: "dict[str, Any]") -> object:
        """What the handler returned, or an AppError's body wrapped in `_Refusal`. Raises Failure only."""
        timeout_ms = context.get("timeoutMs") or self._timeout_ms
        now = monotonic()
        self._deadline = deadline = now + timeout_ms / 1000
        try:
            # A timer that an earlier request set, and that goes off before this one's deadline, is left as it
            # is: `_on_alarm` sets it anew for what is left. That spares a system call per request.
            if not now < self._alarm_at <= deadline:
                self._set_alarm(now, deadline)
            try:
                task = context["taskDetails"]
                handler = self._loader.handler(context["tree"], task["script"], task["function"])
                data = request["requestData"]
                if data["source"] == "internal":
                    # Called by another component, not by a request: the handler gets what that one gave.
                    data = data["internalDetails"]["input"]
                result = handler(data, context)
                if type(result) is _CoroutineType:
                    result = self._drive(result)
            finally:
                # A copy that the handler forked off and that comes back here is not the runner.
                if self._is_copy():
                    posix._exit(0)
                self._deadline = 0.0
        except Failure:
            raise
        except BaseException as error:
            self._set_alarm(0.0, 0.0)
            if self._is_cancelled():
                raise failure.cancelled() from None
            refused = _refusal(error)
            if refused is not None and monotonic() < deadline:
                return refused
            report(error)
            if monotonic() >= deadline:
                raise failure.timed_out(timeout_ms) from None
            raise explain(error) from None
        if monotonic() >= deadline:
            raise failure.timed_out(timeout_ms)
        return result

    def _drive(self, coroutine: "Any") -> object:
        """Run an asynchronous handler to its end on the kept event loop; no task of it survives."""
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        loop = self._loop
        try:
            try:
                return loop.run_until_complete(coroutine)
            finally:
                left = asyncio.all_tasks(loop)
                if left:
                    for task in left:
                        task.cancel()
                    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        except Exception:
            raise
        except BaseException:
            # Interrupted anywhere, the loop may still hold something of this request: start afresh.
            self._loop = None
            raise

    def _set_alarm(self, now: float, deadline: float) -> None:
        """Have SIGALRM come at `deadline`, and again and again from then on; not at all for 0."""
        self._alarm_at = deadline
        setitimer(ITIMER_REAL, max(deadline - now, 0.000_001) if deadline else 0, TIMEOUT_REPEAT_SECONDS)

    def _on_alarm(self, number: int, frame: "FrameType | None") -> None:
        if self._is_copy():
            return
        if number == SIGUSR1:
            if self._deadline and self._is_cancelled():
                raise Interrupted
            return  # Meant for a request before this one.
        now = monotonic()
        if self._deadline and now >= self._deadline:
            raise Interrupted
        # Set for an earlier request: from now on for the one that runs, if any.
        self._set_alarm(now, self._deadline)


class _Refusal:
    """An application's own error (`uhlp_sdk.AppError`) on its way into an answer."""

    __slots__ = ("data",)

    def __init__(self, data: "dict[str, object]") -> None:
        self.data = data


def shape(result: object, expected: str | None) -> tuple[bytes, object]:
    """`resultType` and `data` for what a handler returned.

    `expected` is the component's expectedResultFormat: `generic`, `httpResponse`, or None to go by the
    shape. Raises Failure(RESULT_FORMAT_MISMATCH) for a response that is none.
    """
    if type(result) is _Refusal:
        return b"error", result.data
    is_response = isinstance(result, dict) and "statusCode" in result
    if expected == "generic" or (not is_response and expected != "httpResponse"):
        return b"generic", result
    if not is_response:
        raise _mismatch(
            "expectedResultFormat is httpResponse, and the result is not a dict with a statusCode"
        )
    return b"httpResponse", _response(result)  # type: ignore[arg-type]


def _response(result: "dict[str, Any]") -> "dict[str, Any]":
    status = result["statusCode"]
    if type(status) is not int or not 100 <= status <= 599:
        raise _mismatch(f"statusCode {status!r:.60} is not an integer from 100 to 599")
    given = result.get("headers")
    headers = {} if given is None else given
    if not isinstance(headers, dict):
        raise _mismatch("headers must be a dict of str to str or list of str")
    for value in headers.values():
        if type(value) is not str and not _is_header(value):
            raise _mismatch("headers must be a dict of str to str or list of str")
    body = result.get("body")
    encoding = result.get("bodyEncoding", "utf8")
    if "json" in result:
        body = dumps(result["json"]).decode()
        if not any(name.lower() == "content-type" for name in headers):
            headers = {**headers, "Content-Type": "application/json"}
    elif isinstance(body, (bytes, bytearray)):
        from binascii import b2a_base64

        body = b2a_base64(body, newline=False).decode()
        encoding = "base64"
    elif body is None:
        body = ""
    elif not isinstance(body, str):
        raise _mismatch(f"body is {type(body).__name__}, not str or bytes; for JSON return it as 'json'")
    if encoding not in ("utf8", "base64"):
        raise _mismatch(f"bodyEncoding {encoding!r:.60} is neither utf8 nor base64")
    return {"statusCode": status, "headers": headers, "body": body, "bodyEncoding": encoding}


def _is_header(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return isinstance(value, str)


def _mismatch(why: str) -> Failure:
    return Failure(failure.RESULT_FORMAT_MISMATCH, why)


def _refusal(error: BaseException) -> _Refusal | None:
    sdk = sys.modules.get("uhlp_sdk")
    if sdk is None or not isinstance(error, sdk.AppError):
        return None
    data = {
        "code": error.code,
        "message": error.message,
        "details": error.details,
        "statusCode": error.status,
    }
    return _Refusal(data)


def explain(error: BaseException) -> Failure:
    """What a handler's exception is called in the contract."""
    if isinstance(error, MemoryError):
        return failure.out_of_memory()
    is_refused_thread = type(error) is RuntimeError and str(error) == "can't start new thread"
    if is_refused_thread or (isinstance(error, BlockingIOError) and error.errno == EAGAIN):
        why = "the handler hit its pool's maxProcesses; raise it or start fewer processes and threads"
        return Failure(failure.PROCESS_LIMIT_EXCEEDED, why)
    return Failure(failure.HANDLER_EXCEPTION, describe(error))


def describe(error: BaseException) -> str:
    """An exception in one line: type, text, and the line of the application that raised it."""
    try:
        text = str(error)[:MESSAGE_LIMIT]
    except Exception:
        text = "its text cannot be shown"
    line = type(error).__name__ + (f": {text}" if text else "")
    place = innermost(error)
    return f"{line} ({place[0].rpartition('/')[2]}:{place[1]})" if place else line


def innermost(error: BaseException) -> tuple[str, int] | None:
    """File and line of the innermost frame that is the application's own code."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return error.filename, error.lineno
    place = None
    step = error.__traceback__
    while step is not None:
        code: CodeType = step.tb_frame.f_code
        if "/state/" in code.co_filename:
            place = code.co_filename, step.tb_lineno
        step = step.tb_next
    return place


def report(error: BaseException) -> None:
    """Write the traceback to the handler's standard error, from where it reaches the app's log."""
    import traceback

    try:
        # The first frames are the runner's own; a recursion's thousand are cut by `limit`.
        sys.stderr.write("".join(traceback.format_exception(error, limit=-30)))
        sys.stderr.flush()
    except Exception:
        # The handler closed or replaced it: its request still gets an answer, only the log is poorer.
        return


def failure_body(request_id: str, failed: Failure, seconds: float = 0.0, calls: bytes = b"[]") -> bytes:
    """The body of a request that failed, HTTP 500: its typed error where a caller of either kind looks."""
    message = dumps(failed.message.encode(errors="replace").decode())
    code = dumps(failed.code)
    return b'{"requestId":%b,"resultType":"error","data":{"code":%b,"message":%b,"details":%b},' % (
        dumps(request_id),
        code,
        message,
        dumps(failed.details),
    ) + b'"error":%b,"details":%b,"metrics":{"execution_time_ms":%.3f,"mcp_calls":%b}}' % (
        code,
        message,
        seconds * 1000,
        calls,
    )


def _calls() -> bytes:
    """The MCP calls of the request at hand, for its metrics."""
    sdk = sys.modules.get("uhlp_sdk")
    return b"[]" if sdk is None else dumps(sdk._calls())


def _never() -> bool:
    return False
