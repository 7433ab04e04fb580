"""The few bytes that a persistent worker and the main process share: which request runs, and until when.

Shared memory, because a worker must be able to say so for less than a microsecond a request. The worker
runs an application's code, so the main process takes what it reads there for a claim and no more: it
decides only about that worker and that application's own log.
"""

import fcntl
import mmap
import os
import struct
from typing import Any

from .output import Label

MADV_WIPEONFORK = 18
"""Linux's, which `mmap` has no name for."""

SIZE = 1024
LABEL_LIMIT = 480
_CANCEL_AT = 512
_FIXED_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_HEAD = struct.Struct("<dQH")
_IDLE = struct.Struct("<dQ")


class Original:
    """Tells a process from copies forked off it, without a system call: the kernel wipes their page.

    Raises OSError where the kernel cannot, as gVisor's.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._memory.madvise(MADV_WIPEONFORK)
        self._memory[0] = 1

    def is_copy(self) -> bool:
        """Whether this process was forked off the one that made this object."""
        return not self._memory[0]


class Slot:
    """Written by one worker (`begin`, `end`) and by the main process (`cancel`)."""

    def __init__(self) -> None:
        # A file in memory, for workers whose language can write to files but not to shared memory. Of a fixed
        # size: reading memory that a worker has cut off would kill the main process.
        self.descriptor = os.memfd_create("slot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, SIZE)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _FIXED_SIZE)
        self._memory = mmap.mmap(self.descriptor, SIZE)
        self._served = 0

    def begin(self, request: dict[str, Any], deadline: float) -> None:
        """This request runs now, until `deadline` (monotonic seconds) at most."""
        context = request["context"]
        label = f"{request['requestId']}\0{context.get('componentId')}\0{context.get('revision')}".encode()
        label = label[:LABEL_LIMIT]
        self._memory[: _HEAD.size + len(label)] = _HEAD.pack(deadline, self._served, len(label)) + label

    def end(self) -> None:
        """No request runs. Its label stays, for the output still in the pipes."""
        self._served += 1
        self._memory[: _IDLE.size] = _IDLE.pack(0.0, self._served)

    @property
    def deadline(self) -> float:
        """Monotonic seconds; 0 while no request runs."""
        return float(_HEAD.unpack_from(self._memory)[0])

    @property
    def served(self) -> int:
        """Requests answered so far on this lane."""
        return int(_HEAD.unpack_from(self._memory)[1])

    @property
    def label(self) -> Label:
        """Of the request that runs, or that ran last."""
        length = min(_HEAD.unpack_from(self._memory)[2], LABEL_LIMIT)
        text = self._memory[_HEAD.size : _HEAD.size + length].decode(errors="replace")
        parts = text.split("\0")
        return Label(*parts) if len(parts) == 3 else Label()

    def cancel(self, request_id: str) -> None:
        """Name the request whose client has gone; a signal to the worker follows."""
        name = request_id.encode()
        self._memory[_CANCEL_AT : _CANCEL_AT + 1 + len(name)] = bytes((len(name),)) + name

    def is_cancelled(self) -> bool:
        """Whether the request that runs is the one whose client has gone."""
        length = self._memory[_CANCEL_AT]
        name = self._memory[_CANCEL_AT + 1 : _CANCEL_AT + 1 + length]
        return bool(length) and self.label.request_id == name.decode(errors="replace")
