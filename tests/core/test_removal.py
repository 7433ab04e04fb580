"""Folders are removed whatever those who wrote into them did against it, and nothing else is."""

import os
import sys
from pathlib import Path

import pytest

from uhlp_core.removal import remove_folder


def test_closed_folders_files_and_links_go_and_what_links_lead_to_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "kept").write_text("kept")
    folder = tmp_path / "folder"
    closed = folder / "open" / "closed"
    closed.mkdir(parents=True)
    (closed / "file").write_text("x")
    (closed / "file").chmod(0)
    (closed / "link").symlink_to(outside)
    (folder / "link").symlink_to(outside, target_is_directory=True)
    (folder / "dangling").symlink_to("/nowhere")
    os.mkfifo(folder / "pipe")
    for each in (closed, closed.parent, folder):
        each.chmod(0)
    remove_folder(folder)
    assert not folder.exists()
    assert (outside / "kept").read_text() == "kept"
    assert outside.stat().st_mode & 0o777 == 0o750
    remove_folder(folder)  # it is gone


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "folder").symlink_to("other")
    with pytest.raises(NotADirectoryError):
        remove_folder(tmp_path / "folder")
    assert (tmp_path / "other").is_dir()


def test_folders_go_that_are_deeper_than_any_path_or_stack(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    within = os.open(folder, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 1):
        os.mkdir("d" * 10, dir_fd=within)
        inner = os.open("d" * 10, os.O_RDONLY, dir_fd=within)
        os.close(within)
        within = inner
    os.close(within)
    remove_folder(folder)
    assert not folder.exists()
