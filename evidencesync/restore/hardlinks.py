"""Which entries of a manifest become hard links to which others in a working copy. Never to anything in the vault."""

from __future__ import annotations

from typing import Final

from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import from_json_fields

_Identity = tuple[str, str | None, str | None, str | None, str | None]
_NO_LINKS: Final = (None, 0, 1)


class HardLinks:
    """Gives for each entry the path that it is to be linked to. To be asked in the manifest's order, in each pass anew.

    A link is only made between entries that say the same of their content, so that no false manifest can make one file look
    like another. Where the first name of a group is not wanted, the next one takes its place. Remembers one path for each
    inode that has several names.
    """

    def __init__(self) -> None:
        self._made: dict[bytes, tuple[bytes, _Identity]] = {}
        self.broken: set[bytes] = set()
        """Entries that could not be linked, and were made as files of their own."""

    def target_of(self, path: bytes, entry: Entry) -> bytes | None:
        """The path of an entry before this one that is to be the same inode; None where this one is made by itself."""
        if entry.hardlink_to is None and entry.hardlink_to_b64 is None:
            if entry.links not in _NO_LINKS and entry.type != "directory":
                self._made[path] = (path, _identity(entry))
            return None
        first = from_json_fields(entry.hardlink_to, entry.hardlink_to_b64)
        target, identity = self._made.setdefault(first, (path, _identity(entry)))
        if target == path or path in self.broken or identity != _identity(entry):
            return None
        return target

    def fail(self, path: bytes) -> None:
        """This entry could not be linked."""
        self.broken.add(path)


def _identity(entry: Entry) -> _Identity:
    return entry.type, entry.blake3, entry.target, entry.target_b64, entry.device_number
