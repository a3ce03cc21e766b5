"""Confines a pull to the path that `serve --source` offers, and what lies below it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from evidencesync.errors import NotThereError, PathEscapeError
from evidencesync.evidence.display import safe_text
from evidencesync.source.descriptor import CLOEXEC, PASSAGE_FLAGS
from evidencesync.source.root import SourceRoot, resolve_source

_DESCRIPTORS: Final = b"/proc/self/fd/%d/%b"
_NOT_OFFERED: Final = "this machine offers another source than the one that was asked for"
_HINT: Final = "Ask for the path that was offered there (serve --source PATH), or for one below it."


@dataclass(frozen=True, slots=True)
class Confined:
    """A place that may be read: `reading` is the path by which it is opened, `source` the path by which it is recorded."""

    source: SourceRoot
    reading: SourceRoot


@contextlib.contextmanager
def confined(offered: bytes, asked: bytes) -> Iterator[Confined]:
    """Finds the path that was asked for, if it is `offered` or lies below it. It is held by descriptor until the `with` ends.

    An empty path, `/` and `.` ask for what is offered. A relative path is relative to the working folder, like `offered`
    itself. Links in `offered` are followed, since the local user chose them. Below it no link is followed: each name is opened
    by itself.

    Raises PathEscapeError for a path with `..` or a zero byte, NotThereError for one that is not offered (which does not tell
    whether it exists), and what `resolve_source` raises.
    """
    root = resolve_source(offered)
    names = _names_below(root, offered, asked)
    if not names:
        yield Confined(root, root)
        return
    if not root.is_folder:
        raise _not_offered()
    with contextlib.ExitStack() as stack:
        above = _open_folder(root.path, None, stack)
        for name in names[:-1]:
            above = _open_folder(name, above, stack)
        try:
            status = os.lstat(names[-1], dir_fd=above)
        except OSError as error:
            raise _not_offered() from error
        if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
            raise _not_offered()
        path = b"/".join((root.path.rstrip(b"/"), *names))
        place = _DESCRIPTORS % (above, names[-1])
        is_folder = stat.S_ISDIR(status.st_mode)
        yield Confined(SourceRoot(path, path, is_folder), SourceRoot(place, place, is_folder))


def _names_below(root: SourceRoot, offered: bytes, asked: bytes) -> list[bytes]:
    """The names that lead from what is offered to what was asked for. Compares the paths only, and looks at no file."""
    if b"\0" in asked or b".." in asked.split(b"/"):
        raise PathEscapeError(f"a source's path may not lead upwards: {safe_text(asked, 200)}")
    if asked in (b"", b"/", b".") or asked.rstrip(b"/") == offered.rstrip(b"/"):
        return []
    wanted = os.path.abspath(asked)
    for place in (root.named, root.path):
        if wanted == place:
            return []
        below = place.rstrip(b"/") + b"/"
        if wanted.startswith(below):
            return wanted[len(below) :].split(b"/")
    raise _not_offered()


def _open_folder(name: bytes, above: int | None, stack: contextlib.ExitStack) -> int:
    try:
        descriptor = os.open(name, PASSAGE_FLAGS | os.O_NOFOLLOW | CLOEXEC, dir_fd=above)
    except OSError as error:
        raise _not_offered() from error
    stack.callback(os.close, descriptor)
    return descriptor


def _not_offered() -> NotThereError:
    return NotThereError(_NOT_OFFERED, hint=_HINT)
