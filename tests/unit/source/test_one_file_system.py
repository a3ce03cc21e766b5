"""Where another file system begins: only a folder can be its beginning."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.acquire.dry_run import plan_acquisition
from evidencesync.source import walker
from evidencesync.source.changes import look
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import resolve_source
from evidencesync.source.walker import walk
from tests.support.file_systems import mount, mounted

RULES = FilterRules.from_patterns(one_file_system=True)


def flags(root: Path) -> dict[str, str | None]:
    return {os.fsdecode(found.path): found.flag for found in walk(root, RULES)}


def test_all_of_an_overlay_is_one_file_system_whatever_layer_a_file_lies_in(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    lower, merged = tmp_path / "lower", tmp_path / "merged"
    (lower / "folder/deep").mkdir(parents=True)
    (lower / "old").write_bytes(b"old")
    (lower / "folder/deep/below").write_bytes(b"below")
    (lower / "link").symlink_to("old")
    os.mkfifo(lower / "fifo")
    merged.mkdir()
    with mounted("tmpfs", tmp_path, 1 << 20, require_program) as upper:
        (upper / "upper").mkdir()
        (upper / "work").mkdir()
        layers = f"lowerdir={lower},upperdir={upper / 'upper'},workdir={upper / 'work'}"
        with mount("-t", "overlay", "-o", layers, "overlay", merged):
            (merged / "folder/new").write_bytes(b"new")
            devices = {merged.lstat().st_dev, (merged / "old").lstat().st_dev, (merged / "folder/new").lstat().st_dev}
            assert len(devices) > 1, "this overlay shows one number for all, and so the test shows nothing"
            names = ["", "fifo", "folder", "folder/deep", "folder/deep/below", "folder/new", "link", "old"]
            assert flags(merged) == dict.fromkeys(names)
            seen = plan_acquisition(resolve_source(os.fsencode(merged)), RULES)
            assert (seen.files, seen.tally.manifest.flags) == (3, {})
            before = look(os.fsencode(merged), RULES)
            (merged / "folder/deep/below").write_bytes(b"BELOW")
            assert before is not None
            assert look(os.fsencode(merged), RULES) != before


def test_a_folder_in_which_something_is_mounted_is_left_out_at_any_depth(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/z").write_bytes(b"")
    with mounted("tmpfs", tmp_path / "a/b", 1 << 20, require_program) as place:
        (place / "inside").write_bytes(b"")
        assert flags(tmp_path) == {"": None, "a": None, "a/b": None, "a/b/tmpfs": "skipped", "a/z": None}


def test_a_subvolume_counts_as_a_file_system_of_its_own(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    btrfs = require_program("btrfs")
    with mounted("btrfs", tmp_path, 128 << 20, require_program) as place:
        subprocess.run([btrfs, "subvolume", "create", place / "sub"], check=True, capture_output=True)
        (place / "sub/inside").write_bytes(b"")
        (place / "file").write_bytes(b"")
        assert flags(place) == {"": None, "file": None, "sub": "skipped"}
        assert flags(place / "sub") == {"": None, "inside": None}


def test_a_folder_of_the_same_file_system_that_is_mounted_again_is_taken_and_one_of_another_is_not(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    root, here = tmp_path / "root", tmp_path / "here"
    for folder in (root / "same", root / "other", here):
        folder.mkdir(parents=True)
    (here / "inside").write_bytes(b"")
    with (
        mounted("tmpfs", tmp_path, 1 << 20, require_program) as other,
        mount("--bind", here, root / "same"),
        mount("--bind", other, root / "other"),
    ):
        (other / "inside").write_bytes(b"")
        assert flags(root) == {"": None, "other": "skipped", "same": None, "same/inside": None}


def test_a_single_file_that_is_mounted_over_another_is_taken(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "hosts").write_bytes(b"hidden")
    with mounted("tmpfs", tmp_path, 1 << 20, require_program) as other:
        (other / "hosts").write_bytes(b"what is seen")
        with mount("--bind", other / "hosts", root / "hosts"):
            assert flags(root) == {"": None, "hosts": None}
            assert (root / "hosts").lstat().st_dev != root.lstat().st_dev


def test_a_folder_that_becomes_another_file_system_when_it_is_opened_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_program: Callable[[str], str]
) -> None:
    (tmp_path / "late").mkdir()
    open_folder = walker._open_folder
    with mounted("tmpfs", tmp_path, 1 << 20, require_program) as other:

        def open_and_mount(name: bytes, dir_fd: int) -> tuple[int, bool, os.stat_result]:
            if name == b"late":
                subprocess.run(["mount", "--bind", other, tmp_path / "late"], check=True)
            return open_folder(name, dir_fd)

        monkeypatch.setattr(walker, "_open_folder", open_and_mount)
        try:
            assert flags(tmp_path) == {"": None, "late": "skipped", "tmpfs": "skipped"}
        finally:
            subprocess.run(["umount", tmp_path / "late"], check=True)


def test_what_an_automounter_would_mount_is_left_out_and_not_triggered(tmp_path: Path) -> None:
    place = tmp_path / "auto"
    place.mkdir()
    library = ctypes.CDLL(None, use_errno=True)
    told, telling = os.pipe()
    # In the automounter's own process group nothing would be triggered.
    mounting = subprocess.Popen(["sleep", "3600"], start_new_session=True)
    try:
        options = f"fd={telling},pgrp={mounting.pid},minproto=5,maxproto=5,direct"
        if library.mount(b"autofs", os.fsencode(place), b"autofs", 0, options.encode()):
            pytest.skip("the kernel refuses to mount here (autofs)")
        try:
            os.close(told)  # whoever triggers it now is refused at once, and does not wait for an answer
            assert flags(tmp_path) == {"": None, "auto": "skipped"}
            assert {os.fsdecode(found.path): found.flag for found in walk(tmp_path, FilterRules.none())}["auto"] is not None
        finally:
            library.umount2(os.fsencode(place), 2)
    finally:
        os.close(telling)
        mounting.kill()
        mounting.wait()
