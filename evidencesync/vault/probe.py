"""Finds out what a file system can do, by doing it in a folder of its own."""

from __future__ import annotations

import os
import re
import secrets
from typing import Final

from evidencesync.files.copying import share_blocks
from evidencesync.files.disk import CREATE_FLAGS, opened_folder, storing, sync_file_system, write_all
from evidencesync.files.folders import remove_tree
from evidencesync.vault.settings import FileSystem

_PROBE: Final = re.compile(r"\.probe-[0-9a-f]{16}")
_ODD_TIME: Final = 1_500_000_001_123_456_789  # odd in its seconds, and in every digit below
_GRANULARITIES: Final = (1, 100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000)
_NAME_LENGTHS: Final = (255, 254, 143, 127, 64)  # Linux; some FUSE layers; eCryptfs; and what is still usable


def is_probe(name: str) -> bool:
    """Whether a folder's name is that of one that is made here."""
    return _PROBE.fullmatch(name) is not None


def probe_file_system(dir_fd: int) -> FileSystem:
    """What the file system of a folder can do. Leaves the folder as it was.

    Raises StorageError when not even files can be made and synced there.
    """
    name = f".probe-{secrets.token_hex(8)}"
    with storing("make a folder to try the file system"):
        os.mkdir(name, 0o700, dir_fd=dir_fd)
    try:
        with opened_folder(name, dir_fd) as probe, storing("try the file system"):
            return _probe(probe)
    finally:
        remove_tree(dir_fd, name)


def _probe(probe: int) -> FileSystem:
    _make(probe, b"first", b"probe")
    return FileSystem(
        case_sensitive=not _exists(probe, b"FIRST"),
        any_bytes_in_names=_can_make(probe, b"\xff\xfe"),
        name_bytes=next((length for length in _NAME_LENGTHS if _can_make(probe, b"n" * length)), 8),
        time_granularity_ns=_granularity(probe),
        hard_links=_can_link(probe),
        reflinks=_can_reflink(probe),
        sync="syncfs" if sync_file_system(probe, "the file system") else "fsync",
    )


def _make(probe: int, name: bytes, data: bytes) -> None:
    fd = os.open(name, CREATE_FLAGS, 0o600, dir_fd=probe)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def _exists(probe: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=probe, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _can_make(probe: int, name: bytes) -> bool:
    try:
        os.close(os.open(name, CREATE_FLAGS, 0o600, dir_fd=probe))
    except OSError:
        return False
    return name in [os.fsencode(found) for found in os.listdir(probe)]  # as it was given, and not made "better"


def _granularity(probe: int) -> int:
    os.utime(b"first", ns=(_ODD_TIME, _ODD_TIME), dir_fd=probe)
    kept = os.stat(b"first", dir_fd=probe).st_mtime_ns
    return next((step for step in _GRANULARITIES if kept == _ODD_TIME // step * step), _GRANULARITIES[-1])


def _can_link(probe: int) -> bool:
    try:
        os.link(b"first", b"second", src_dir_fd=probe, dst_dir_fd=probe, follow_symlinks=False)
    except OSError:
        return False
    return True


def _can_reflink(probe: int) -> bool:
    source = os.open(b"first", os.O_RDONLY | os.O_CLOEXEC, dir_fd=probe)
    try:
        target = os.open(b"reflink", CREATE_FLAGS, 0o600, dir_fd=probe)
        try:
            return share_blocks(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)
