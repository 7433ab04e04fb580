"""How much a folder takes is told right, whatever lies in it."""

import math
import os
from pathlib import Path

import pytest

from uhlp_core.disk_usage import MAX_DEPTH, DiskUsage, disk_usage

BLOCK = 4096


def test_files_of_all_folders_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * BLOCK)
    inner = tmp_path / "inner" / "more"
    inner.mkdir(parents=True)
    (inner / "b").write_bytes(b"x" * 3 * BLOCK)
    folders = sum(path.stat().st_blocks * 512 for path in (inner, inner.parent))
    assert disk_usage(tmp_path, 10) == DiskUsage(4 * BLOCK + folders, 4)


def test_holes_and_what_links_lead_to_take_nothing(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "large").write_bytes(b"x" * 100 * BLOCK)
    measured = tmp_path / "measured"
    measured.mkdir()
    os.rename(tmp_path / "sparse", measured / "sparse")
    (measured / "folder").symlink_to("../elsewhere")
    (measured / "file").symlink_to("../elsewhere/large")
    assert disk_usage(measured, 10) == DiskUsage(0, 3)


def test_nothing_is_measured_where_nothing_is_or_a_link(tmp_path: Path) -> None:
    assert disk_usage(tmp_path / "none", 10) == DiskUsage(0, 0)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError):
        disk_usage(tmp_path / "link", 10)


def test_too_many_and_too_deep_are_more_than_any_limit(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / str(number)).touch()
    assert disk_usage(tmp_path, 4).entries == 4
    assert disk_usage(tmp_path, 3).entries == math.inf
    deepest = tmp_path.joinpath(*"d" * (MAX_DEPTH + 1))
    deepest.mkdir(parents=True)
    assert disk_usage(tmp_path, 1000).entries == math.inf
    deepest.rmdir()
    assert disk_usage(tmp_path, 1000).entries == 4 + MAX_DEPTH
