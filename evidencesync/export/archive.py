"""Writes an export as a tar archive, as it is read: the same bytes for the same evidence, and nothing on a disk.

POSIX pax headers (IEEE Std 1003.1-2008), so that names and sizes have no bounds. Owners are nobody's, modes and order are
fixed, and documents have the time at which the acquisition was finished.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from typing import Final

from evidencesync.evidence.utc_time import parse_moment
from evidencesync.export.acquisition import Acquisition
from evidencesync.export.parts import Document, Folder, Part, written_blocks
from evidencesync.files.disk import FILE_MODE, FOLDER_MODE
from evidencesync.vault.layout import DATA
from evidencesync.verify.progress import VerifyProgress

_UNIT: Final = tarfile.BLOCKSIZE
_END: Final = bytes(2 * _UNIT)
_SECOND: Final = 1_000_000_000


def archive_blocks(acquisition: Acquisition, name: str, parts: Iterable[Part], progress: VerifyProgress) -> Iterator[bytes]:
    """The archive, in blocks of any size. Everything in it lies in one folder of that name.

    Raises DigestMismatchError for what is not what it was when it was verified, MissingOrExtraError, StorageError.
    """
    finished = parse_moment(acquisition.footer.finished) // _SECOND
    yield _header(name, finished, None)
    made: set[str] = set()
    for part in parts:
        if isinstance(part, Document):
            folder = part.name.rpartition("/")[0]
            if folder and folder not in made:
                made.add(folder)
                yield _header(f"{name}/{folder}", finished, None)
            size = part.measured.size
            yield _header(f"{name}/{part.name}", finished, size)
            yield from written_blocks(part)
            yield bytes(-size % _UNIT)
            continue
        path = "/".join([name, DATA, *([part.path.decode("utf-8")] if part.path else [])])
        seconds = part.mtime_ns // _SECOND if part.mtime_ns is not None else finished
        if isinstance(part, Folder):
            yield _header(path, seconds, None)
            continue
        size = part.entry.size or 0
        yield _header(path, seconds, size)
        yield from acquisition.content_blocks(part.path, part.entry)
        yield bytes(-size % _UNIT)
        progress.files += 1
        progress.bytes += size
    yield _END


def _header(path: str, seconds: int, size: int | None) -> bytes:
    """The header of a file of a size, or (without one) of a folder."""
    info = tarfile.TarInfo(path)
    info.type = tarfile.DIRTYPE if size is None else tarfile.REGTYPE
    info.mode = FOLDER_MODE if size is None else FILE_MODE
    info.size = size or 0
    info.mtime = seconds
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
