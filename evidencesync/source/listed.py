"""The names of --files-from: what of the source is wanted, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from evidencesync.errors import PathEscapeError, UsageError
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.path import EvidencePath


class Wanted:
    """What is wanted at one path. `whole`: it was listed itself, and so all below it is wanted, too.

    `names` are those below it that lead to what was listed, or were: they are looked for, whether the folder shows them or not.
    """

    __slots__ = ("names", "whole")

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole
        self.names: dict[bytes, Wanted] = {}


EVERYTHING: Final = Wanted(whole=True)
"""Where nothing was listed. Never changed."""


@dataclass(frozen=True, slots=True)
class ListedNames:
    """A list of paths below the source's root. A listed folder is wanted with all that is in it.

    `count` is how many names the list has, `sha256` the digest of the list's exact bytes, in hexadecimal.
    """

    wanted: Wanted
    count: int
    sha256: str

    @classmethod
    def parse(cls, content: bytes, separator: bytes) -> ListedNames:
        """Reads a list whose names are ended or separated by a newline or NUL; empty ones do not count.

        A leading `./` and a last `/`, as find(1) and ls(1) print them, are no part of a name. Raises UsageError for a path
        that is absolute or leads upwards, and for a list without names.
        """
        wanted = Wanted()
        count = 0
        for number, line in enumerate(content.split(separator), 1):
            if not line:
                continue
            count += 1
            place = wanted
            for part in _parts(line, number):
                place = place.names.setdefault(part, Wanted())
            place.whole = True
        if not count:
            raise UsageError("the list of files names nothing", hint="Name at least one path, relative to the source.")
        return cls(wanted, count, sha256_of(content).hex())


def below(path: bytes, wanted: Wanted) -> Iterator[tuple[bytes, bool]]:
    """All names that lead to what was listed below a path, in the manifest's order, and whether they were listed themselves."""
    pending = [(path, name, wanted.names[name]) for name in sorted(wanted.names, reverse=True)]
    while pending:
        above, name, inner = pending.pop()
        full = above + b"/" + name if above else name
        yield full, inner.whole
        pending += [(full, deeper, inner.names[deeper]) for deeper in sorted(inner.names, reverse=True)]


def _parts(line: bytes, number: int) -> tuple[bytes, ...]:
    if line.startswith(b"/"):
        raise UsageError(
            f"line {number} of the list of files is an absolute path: {safe_text(line, 200)}",
            hint="The names are relative to the source.",
        )
    kept = [part for part in line.split(b"/") if part not in (b"", b".")]
    try:
        return EvidencePath(b"/".join(kept)).parts
    except PathEscapeError as error:
        raise UsageError(f"line {number} of the list of files: {error.message}") from error
