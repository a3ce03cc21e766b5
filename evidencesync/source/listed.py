"""The names of --files-from: what of the source is wanted, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from evidencesync.errors import PathEscapeError, UsageError
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.path import EvidencePath

Wanted = dict[bytes, "Wanted"]
"""The names that are wanted in a folder, each with what is wanted below it; empty: everything."""

EVERYTHING: Final[Wanted] = {}


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
        wanted: Wanted = {}
        everything = False
        count = 0
        for number, line in enumerate(content.split(separator), 1):
            if not line:
                continue
            count += 1
            parts = _parts(line, number)
            everything = everything or not parts
            _add(wanted, parts)
        if not count:
            raise UsageError("the list of files names nothing", hint="Name at least one path, relative to the source.")
        return cls(EVERYTHING if everything else wanted, count, sha256_of(content).hex())


def below(path: bytes, wanted: Wanted) -> Iterator[tuple[bytes, bool]]:
    """All that is wanted below a path, in the manifest's order, and whether it is only on the way to something listed."""
    pending = [(path, name, wanted[name]) for name in sorted(wanted, reverse=True)]
    while pending:
        above, name, inner = pending.pop()
        full = above + b"/" + name if above else name
        yield full, bool(inner)
        pending += [(full, deeper, inner[deeper]) for deeper in sorted(inner, reverse=True)]


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


def _add(wanted: Wanted, parts: tuple[bytes, ...]) -> None:
    """Adds one path. A folder that is wanted whole takes in what is listed below it."""
    for part in parts[:-1]:
        known = wanted.get(part)
        if known is not None and not known:
            return
        wanted = wanted.setdefault(part, {})
    if parts:
        wanted[parts[-1]] = {}
