"""What a file system keeps of names, as it is found out."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.files.disk import opened_folder
from evidencesync.files.folders import names_in
from evidencesync.files.kept_names import KeptNames, try_names


def _found(folder: Path) -> KeptNames:
    with opened_folder(folder) as fd:
        found = try_names(fd)
    assert os.listdir(folder) == []
    return found


def test_a_file_system_that_keeps_every_name_is_found_to(tmp_path: Path) -> None:
    assert _found(tmp_path) == KeptNames()
    assert KeptNames().all


@pytest.mark.parametrize(
    ("listed", "expected", "lost", "kept"),
    [
        (str.lower, KeptNames(letters=False), ["Evidence", "SHA256SUMS", "tHis"], ["evidence", "0001", "é"]),
        (lambda name: unicodedata.normalize("NFD", name), KeptNames(accents=False), ["é", "e\u0301"], ["A", "a.", " "]),
        (lambda name: unicodedata.normalize("NFC", name), KeptNames(accents=False), ["é", "e\u0301"], ["A", "a.", " "]),
        (lambda name: name.rstrip(". "), KeptNames(ends=False), ["a.", "a ", ". ", "..."], ["A", "a.b", " a", "é"]),
    ],
)
def test_a_file_system_that_lists_other_names_is_found_to(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listed: Callable[[str], str],
    expected: KeptNames,
    lost: list[str],
    kept: list[str],
) -> None:
    monkeypatch.setattr("evidencesync.files.kept_names.names_in", lambda fd: [listed(name) for name in names_in(fd)])
    found = _found(tmp_path)
    assert (found, found.all) == (expected, False)
    assert [name for name in (*lost, *kept) if not found.holds(name.encode())] == lost


def test_a_file_system_that_only_compares_spellings_keeps_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ZFS does with `normalization`, APFS, and ext4 in folders without case: the name is listed as it was written."""
    really = os.open

    def comparing(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None and isinstance(path, bytes) and flags & os.O_CREAT:
            there = [unicodedata.normalize("NFD", name).lower() for name in os.listdir(dir_fd)]
            if unicodedata.normalize("NFD", path.decode()).lower() in there:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", comparing)
    assert _found(tmp_path) == KeptNames()


def test_a_name_that_is_refused_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def refusing(path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path in (b"dot.", b"space "):
            raise OSError(22, os.strerror(22))
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refusing)
    assert _found(tmp_path) == KeptNames()
