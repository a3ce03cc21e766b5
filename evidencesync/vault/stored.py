"""Compares small stored files, many at a time, with what a manifest lists: size, mode, BLAKE3 and SHA-256."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, Literal, NamedTuple

import msgspec
from blake3 import blake3

from evidencesync.errors import EvidenceSyncError, MissingOrExtraError
from evidencesync.files.closing import let_go
from evidencesync.files.disk import forget_cached
from evidencesync.limits import FIRST_READ
from evidencesync.vault.tree import TreeReader

_BLOCK: Final = 1 << 20


class StoredFile(NamedTuple):
    """A file as the manifest lists it; digests in hexadecimal."""

    path: bytes
    size: int
    blake3: str
    sha256: str


class Comparison(msgspec.Struct, frozen=True):
    """How files are to be compared.

    `sha256`: besides BLAKE3. `from_disk`: not from the page cache. `unsafe_bits`: those that no file's mode may have.
    `survey`: these files need not be a vault's, so they are hashed whatever their size is and the digests of those that
    differ are told; nothing changes their access times, where the system allows that.
    """

    sha256: bool
    from_disk: bool
    unsafe_bits: int = 0
    survey: bool = False


class Problem(msgspec.Struct, frozen=True, array_like=True):
    """What is wrong with a file; `number` is its place in the run of files that was compared.

    `gone`: there is none, or something else has its name. `unreadable`: the system refuses; `text` says why. `mode` and
    `size`: what is there, in `value`. `BLAKE3` and `SHA-256`: the first that differs; `value` bytes were read. `other`, in
    a survey only: `value` other bytes, whose digests (BLAKE3, then perhaps SHA-256) are in `text`.
    """

    number: int
    kind: Literal["gone", "unreadable", "mode", "size", "BLAKE3", "SHA-256", "other"]
    value: int = 0
    text: str = ""


def compare_files(reader: TreeReader, files: Sequence[StoredFile], comparison: Comparison) -> list[Problem]:
    """All that is wrong with these files, in their order. Each is read whole: for small files only. Raises nothing."""
    problems: list[Problem] = []
    for number, file in enumerate(files):
        try:
            fd, found = reader.open_file(file.path)
        except MissingOrExtraError as error:
            problems.append(Problem(number, "gone", text=error.message))
            continue
        except EvidenceSyncError as error:
            problems.append(Problem(number, "unreadable", text=error.message))
            continue
        try:
            if found.st_mode & comparison.unsafe_bits:
                problems.append(Problem(number, "mode", found.st_mode))
            if comparison.survey:
                digests, size = _hash_all(fd, found.st_size, with_sha256=comparison.sha256)
                if digests != [file.blake3, file.sha256][: len(digests)]:
                    problems.append(Problem(number, "other", size, " ".join(digests)))
                continue
            if found.st_size != file.size:
                problems.append(Problem(number, "size", found.st_size))
                continue
            if comparison.from_disk:
                forget_cached(fd)
            data = _read_whole(fd, file.size)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno is not None else str(error)
            problems.append(Problem(number, "unreadable", text=reason))
            continue
        finally:
            let_go(fd)
        if blake3(data).hexdigest() != file.blake3:
            problems.append(Problem(number, "BLAKE3", len(data)))
        elif comparison.sha256 and sha256(data).hexdigest() != file.sha256:
            problems.append(Problem(number, "SHA-256", len(data)))
    return problems


def _hash_all(fd: int, size: int, *, with_sha256: bool) -> tuple[list[str], int]:
    """The digests of a file that says it has `size` bytes, and how many it has. One that has more is read to its end."""
    whole, other = blake3(), sha256()
    length = 0
    while data := os.read(fd, min(size + 1 if size else FIRST_READ, _BLOCK)):
        whole.update(data)
        if with_sha256:
            other.update(data)
        length += len(data)
        if length == size and len(data) <= size < _BLOCK:  # one byte more was asked for
            break
    return [whole.hexdigest(), other.hexdigest()] if with_sha256 else [whole.hexdigest()], length


def _read_whole(fd: int, size: int) -> bytes:
    data = os.read(fd, size + 1)  # one more, to see that it ends there
    if len(data) == size:
        return data
    parts = [data]
    length = len(data)
    while length <= size and (data := os.read(fd, size + 1)):
        parts.append(data)
        length += len(data)
    return b"".join(parts)
