"""The ways in which a request can fail, and the bodies that say so (specification 2.4).

Part of the interpreter mode's boot path: imports nothing.
"""

HANDLER_EXCEPTION = "HANDLER_EXCEPTION"
HANDLER_TIMEOUT = "HANDLER_TIMEOUT"
HANDLER_CRASHED = "HANDLER_CRASHED"
HANDLER_NOT_FOUND = "HANDLER_NOT_FOUND"
HANDLER_IMPORT_FAILED = "HANDLER_IMPORT_FAILED"
OUT_OF_MEMORY = "OUT_OF_MEMORY"
PROCESS_LIMIT_EXCEEDED = "PROCESS_LIMIT_EXCEEDED"
OUTPUT_LIMIT_EXCEEDED = "OUTPUT_LIMIT_EXCEEDED"
RESULT_NOT_SERIALISABLE = "RESULT_NOT_SERIALISABLE"
RESULT_FORMAT_MISMATCH = "RESULT_FORMAT_MISMATCH"
CANCELLED = "CANCELLED"
PROMPT_FAILED = "PROMPT_FAILED"
PROMPT_TOO_LARGE = "PROMPT_TOO_LARGE"
LLM_UNAVAILABLE = "LLM_UNAVAILABLE"

_ABORTS = (4, 5, 6)
"""SIGILL, SIGTRAP, SIGABRT: how a runtime ends itself."""

_MEMORY_WORDS = (
    b"out of memory",
    b"Fatal process OOM",
    b"Fatal javascript OOM",
    b"SetPermissions(",
    b"std::bad_alloc",
)
"""V8's heap limit, V8 elsewhere, V8 when the kernel refuses a page, and C++."""


class Failure(Exception):
    """A request that failed for a reason the caller is told: HTTP 500 with this code, message and details."""

    def __init__(self, code: str, message: str, details: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


def timed_out(timeout_ms: float) -> Failure:
    """The handler used up the time its request gave it."""
    return Failure(
        HANDLER_TIMEOUT,
        f"the handler ran past its timeout of {timeout_ms:g} ms; raise timeoutMs or do less per request",
    )


def ended(status: int, last_words: bytes = b"") -> Failure:
    """The process of a handler ended before it had answered. `status` is what waitpid said.

    `last_words` is the end of its standard error: where a runtime aborts for want of memory, it says so.
    """
    # Decoded by hand: WIFSIGNALED and its kin live in `os`, which a boot need not have imported.
    number = status & 0x7F
    if number in _ABORTS and any(words in last_words for words in _MEMORY_WORDS):
        return out_of_memory()
    how = f"was killed by signal {number}" if number else f"exited with status {status >> 8}"
    return Failure(HANDLER_CRASHED, f"the handler's process {how} before it answered")


def out_of_memory() -> Failure:
    """The handler asked for more memory than its pool allows."""
    return Failure(OUT_OF_MEMORY, "the handler hit its pool's memoryLimit; raise it or hold less at once")


def too_much_output(limit: int) -> Failure:
    """The handler printed, or returned, more than is kept. `limit` is in bytes."""
    return Failure(OUTPUT_LIMIT_EXCEEDED, f"the handler printed or returned more than {limit} bytes")


def cancelled() -> Failure:
    """The client went away."""
    return Failure(CANCELLED, "the client went away before the handler answered")
