"""Reading Git objects by id: from a repo, from the quarantine of a push, or staged in memory.

Knows ids and bytes; what commits and trees mean is `git_tree`'s.
"""

from __future__ import annotations

import os
import re
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID, hex_to_sha
from dulwich.pack import PackFileDisappeared

from uhlp_core.errors import InvalidInput, NotFound

MAX_OPEN_REPOS = 64
"""Repos that one thread keeps open; each costs some file handles and mapped pack indexes."""
MAX_KNOWN_SIZES = 100_000
"""Object sizes remembered per process (about 15 MB): more than the live trees of a platform have."""
MAX_STRUCTURE_BYTES = 8 * 1024 * 1024
"""Of one tree or commit that is parsed; 5,000 file names in one folder need a tenth of it."""
HEADER_BYTES = 256
"""Read of a file to learn an object's size; the headers of all kinds need less than 64 when deflated."""
OFFSET_DELTA, REFERENCE_DELTA = 6, 7
"""Pack entry types that hold a delta in place of an object."""

TYPES = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}
"""Git's numbers of object types."""

_OBJECT_ID = re.compile(r"[0-9a-f]{40}")
_sizes: dict[str, int] = {}
"""Invariant: an object's size follows from its id, so an entry can never be wrong, in whatever repo."""
_opened = threading.local()


class Store(DiskObjectStore):
    """An object folder that closes itself when nobody holds it any more: with its thread, or after a push."""

    def __del__(self) -> None:
        self.close()


class Objects:
    """Reads objects from several places in turn: staged ones in memory, a quarantine, the repo itself."""

    def __init__(
        self, stores: Sequence[Store], staged: Mapping[str, tuple[int, bytes]] | None = None
    ) -> None:
        self._stores = stores
        self._staged = {} if staged is None else staged

    def staging(self, staged: Mapping[str, tuple[int, bytes]]) -> Objects:
        """The same, with objects on top that are not written yet."""
        return Objects(self._stores, staged)

    def read(self, object_id: str) -> tuple[int, bytes]:
        """Git's type number and the content of an object; raises NotFound."""
        if object_id in self._staged:
            return self._staged[object_id]
        name = ObjectID(object_id.encode())
        # Twice: a repack may move an object from a place not yet looked at to one that was passed already.
        for store in (*self._stores, *self._stores):
            found = _read_loose(store, object_id)
            if found is not None:
                return found
            try:
                return store.get_raw(name)
            except (KeyError, PackFileDisappeared):
                continue
        raise NotFound(f"there is no Git object {object_id}")

    def read_structure(self, object_id: str) -> tuple[int, bytes]:
        """The same for what will be parsed; raises InvalidInput if it is too large for that."""
        if self.size(object_id) > MAX_STRUCTURE_BYTES:
            raise InvalidInput(f"the Git object {object_id} is larger than {MAX_STRUCTURE_BYTES} bytes")
        return self.read(object_id)

    def size(self, object_id: str) -> int:
        """The size of an object in bytes, from its header alone: a few pushed bytes can inflate to gigabytes.

        Raises NotFound.
        """
        if object_id in self._staged:
            return len(self._staged[object_id][1])
        size = _sizes.get(object_id)
        if size is None:
            size = self._header_size(object_id)
            if len(_sizes) >= MAX_KNOWN_SIZES:
                _sizes.clear()
            _sizes[object_id] = size
        return size

    def _header_size(self, object_id: str) -> int:
        for store in self._stores:
            found = _loose_size(store, object_id)
            if found is None:
                found = _packed_size(store, object_id)
            if found is not None:
                return found
        return len(self.read(object_id)[1])


def _loose_path(store: Store, object_id: str) -> str:
    return f"{os.fspath(store.path)}/{object_id[:2]}/{object_id[2:]}"


def _read_loose(store: Store, object_id: str) -> tuple[int, bytes] | None:
    """An object that has a file of its own: four times as fast as asking the store, and mostly it has."""
    try:
        with open(_loose_path(store, object_id), "rb") as file:  # noqa: PTH123 (hot)
            header, _, content = zlib.decompress(file.read()).partition(b"\0")
    except FileNotFoundError:
        return None
    return TYPES[header.partition(b" ")[0]], content


def _loose_size(store: Store, object_id: str) -> int | None:
    try:
        with open(_loose_path(store, object_id), "rb") as file:  # noqa: PTH123 (hot)
            header = _inflated_start(file)
    except FileNotFoundError:
        return None
    digits = header.partition(b" ")[2].partition(b"\0")[0]
    return int(digits) if digits.isdigit() else None


def _packed_size(store: Store, object_id: str) -> int | None:
    name = hex_to_sha(ObjectID(object_id.encode()))
    for pack in store.packs:
        try:
            offset = pack.index.object_offset(name)
            with open(os.fsdecode(pack.data.path), "rb") as file:  # noqa: PTH123 (hot)
                file.seek(offset)
                return _entry_size(file)
        except (KeyError, FileNotFoundError, PackFileDisappeared):
            continue
    return None


def _entry_size(file: BinaryIO) -> int:
    """The size that a pack's entry announces (`git help gitformat-pack`)."""
    byte = file.read(1)[0]
    kind, size, shift = (byte >> 4) & 7, byte & 15, 4
    while byte & 0x80:
        byte = file.read(1)[0]
        size |= (byte & 0x7F) << shift
        shift += 7
    if kind == OFFSET_DELTA:
        while file.read(1)[0] & 0x80:
            pass
    elif kind == REFERENCE_DELTA:
        file.seek(20, os.SEEK_CUR)
    else:
        return size
    delta = _inflated_start(file)
    _, position = _delta_number(delta, 0)  # the size of the base
    size, _ = _delta_number(delta, position)
    return size


def _delta_number(delta: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = delta[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return number, position


def _inflated_start(file: BinaryIO) -> bytes:
    return zlib.decompressobj().decompress(file.read(HEADER_BYTES), HEADER_BYTES)


def open_objects(repo: Path) -> Objects:
    """The repo's objects, from a handle that this thread keeps open."""
    return Objects([open_store(repo)])


def open_quarantine(repo: Path, quarantine: Path | None, alternates: Sequence[Path]) -> Objects:
    """What a pre-receive hook may see: objects that were pushed but not accepted yet, then the repo's own."""
    own = repo / "objects"
    others = [folder for folder in (quarantine, *alternates) if folder is not None and folder != own]
    return Objects([*(Store(folder) for folder in others), open_store(repo)])


def open_store(repo: Path) -> Store:
    """This thread's store of the repo. What it writes is on disk before a ref can name it."""
    kept: OrderedDict[Path, Store] | None = getattr(_opened, "stores", None)
    if kept is None:
        kept = _opened.stores = OrderedDict()
    store = kept.get(repo)
    if store is None:
        store = kept[repo] = Store(repo / "objects", fsync_object_files=True)
        if len(kept) > MAX_OPEN_REPOS:
            kept.popitem(last=False)[1].close()
    kept.move_to_end(repo)
    return store


def is_object_id(text: str) -> bool:
    """Whether `text` is a full object id, in lower case as Git writes it."""
    return bool(_OBJECT_ID.fullmatch(text))
