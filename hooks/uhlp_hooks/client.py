"""What runs as `pre-receive` and `post-receive`: asks the registry daemon and prints its answer.

This text is copied into the hooks folder by `install`, with a call of `run` at its end, and runs in a bare
interpreter (`-I -S`) for every push: it imports C modules only, which keeps it at the cost of the
interpreter's own start. The protocol is in docs/architecture.md.
"""

import _socket
import posix
import time
from _json import encode_basestring_ascii as quote
from _json import scanstring

CONNECT_SECONDS = 2.0
VERDICT_SECONDS = 30.0
"""A warm validator needs milliseconds; after this long the hook judges by itself."""
GRACE_SECONDS = 5.0
"""How much longer than its `wait` a post-receive stays for the daemon's last word."""
CHUNK = 65536

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Silent(Exception):
    """The daemon is not there, or does not answer."""


def read_all(descriptor: int) -> bytes:
    parts = []
    while part := posix.read(descriptor, CHUNK):
        parts.append(part)
    return b"".join(parts)


def environment(name: str) -> str:
    return posix.environ.get(name.encode(), b"").decode("utf-8", "surrogateescape")


def say(text: str) -> None:
    posix.write(1, text.encode("utf-8", "backslashreplace") + b"\n")


def strings(values: "list[str]") -> str:
    return "[" + ",".join(map(quote, values)) + "]"


def push_options() -> "list[str]":
    count = environment("GIT_PUSH_OPTION_COUNT")
    return [environment(f"GIT_PUSH_OPTION_{number}") for number in range(int(count) if count else 0)]


def request(hook: str, updates: str, wait: float) -> bytes:
    """The line that is sent to the daemon."""
    here = posix.getcwd()
    objects = environment("GIT_OBJECT_DIRECTORY") or environment("GIT_QUARANTINE_PATH")
    if objects and not objects.startswith("/"):
        objects = here + "/" + objects
    alternates = environment("GIT_ALTERNATE_OBJECT_DIRECTORIES")
    pusher = environment("REMOTE_USER") or environment("LOGNAME") or environment("USER")
    fields = {
        "op": quote(hook),
        "repo": quote(here),
        "objects": quote(objects) if objects else "null",
        "alternates": strings(alternates.split(":") if alternates else []),
        "updates": "["
        + ",".join(strings(line.split(" ", 2)) for line in updates.removesuffix("\n").split("\n"))
        + "]",
        "pusher": quote(pusher or f"uid {posix.getuid()}"),
        "wait": str(wait),
    }
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}\n").encode()


def lines(path: str, message: bytes, seconds: float) -> "Iterator[str]":
    """The daemon's answer, line by line; raises Silent when it fails or takes longer in all."""
    deadline = time.monotonic() + seconds
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_SECONDS)
        connection.connect(path)
        connection.settimeout(seconds)
        connection.sendall(message)
        rest = b""
        while True:
            while b"\n" not in rest:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                part = connection.recv(CHUNK)
                if not part:
                    raise Silent
                rest += part
            line, _, rest = rest.partition(b"\n")
            yield line.decode("utf-8", "replace")
    except OSError as error:
        raise Silent from error
    finally:
        connection.close()


def ask(path: str, message: bytes, seconds: float) -> int:
    """Print what the daemon says; returns the exit code that it names. Raises Silent."""
    for line in lines(path, message, seconds):
        value = line.partition(":")[2].strip()
        if line.startswith('{"line"'):
            text, _ = scanstring(value, 1, True)
            say(text)
        elif line.startswith('{"exit"'):
            return int(value.rstrip("}"))
    raise Silent


def judge_here(python: str, updates: bytes) -> None:
    """Become the full validator, with the same standard input."""
    descriptor = posix.memfd_create("updates")
    posix.write(descriptor, updates)
    posix.lseek(descriptor, 0, 0)
    posix.dup2(descriptor, 0)
    posix.execve(python, [python, "-I", "-m", "uhlp_hooks.fallback"], posix.environ)


def run(hook: str, path: str, python: str, wait: float) -> int:
    """One hook from its standard input to its exit code."""
    updates = read_all(0)
    if hook == "post-receive" and "no-wait" in push_options():
        wait = 0.0
    message = request(hook, updates.decode("utf-8", "surrogateescape"), wait)
    try:
        return ask(path, message, VERDICT_SECONDS if hook == "pre-receive" else wait + GRACE_SECONDS)
    except Silent:
        if hook == "pre-receive":
            try:
                judge_here(python, updates)
            except OSError as error:
                say(f"the push cannot be validated: {error}; `uhlp up` installs the hooks anew")
                return 1
        # In these cases too: what Git has accepted is served, sooner or later.
        say("The commit is stored. If the platform is down, it goes live when that runs again (`uhlp up`).")
        return 0
