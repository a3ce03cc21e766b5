"""Counts what a push would acquire, from names and metadata alone: no content and no link is read, and nothing is written."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from evidencesync.acquire.reading import MAX_LISTED_FLAGS
from evidencesync.custody.wholeness import ManifestTally
from evidencesync.evidence.entry import Entry, Flag
from evidencesync.evidence.path import to_json_fields
from evidencesync.source.device import find_device, geometry_of
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import SourceRoot
from evidencesync.source.walker import Found, walk


@dataclass(slots=True)
class DryRun:
    """Counts of a source. `files` and `size` (bytes) are of the files that would be read.

    `flagged`: the first paths that would not be read whole, including listed names that cannot be reached.
    """

    entries: ManifestTally = field(default_factory=ManifestTally)
    flagged: list[tuple[bytes, Flag]] = field(default_factory=list)
    files: int = 0
    size: int = 0
    not_there: set[bytes] = field(default_factory=set)
    not_there_count: int = 0
    listed_folders: int = 0

    def add_not_there(self, path: bytes) -> None:
        """Counts a name of a list that is not there, or a folder on the way to one."""
        self.not_there_count += 1
        if len(self.not_there) < MAX_LISTED_FLAGS:
            self.not_there.add(path)

    def flag(self, path: bytes, flag: Flag) -> None:
        """Keeps a flagged path, as long as there is room."""
        if len(self.flagged) < MAX_LISTED_FLAGS:
            self.flagged.append((path, flag))


def plan_acquisition(source: SourceRoot, rules: FilterRules) -> DryRun:
    """Walks a source, opening folders as a push would. Whether a file can be read is taken from its permissions.

    A device is opened to find its size, and not read. Raises SourceNotFoundError.
    """
    seen = DryRun()

    def record_unreached(path: bytes) -> None:
        seen.entries.remark("listed-not-reached", 1)
        seen.flag(path, "vanished")
        seen.add_not_there(path)

    there = find_device(source) if source.is_device else walk(source.path, rules, unreached=record_unreached)
    for found in there:
        if not found.path and found.stat is None:  # the folder above a single file: not part of the source
            continue
        flag = found.flag
        if not found.noatime and found.stat is not None:
            seen.entries.remark("access-time-changed", os.fstat(found.folder_fd).st_atime_ns != found.stat.st_atime_ns)
        if source.is_device:
            seen.files, seen.size = 1, geometry_of(source).size
        elif flag is None and found.entry_type == "file" and found.stat is not None:
            if _may_read(found):
                seen.files += 1
                seen.size += found.stat.st_size
            else:
                flag = "unreadable"
        if flag is not None:
            seen.flag(found.path, flag)
        if found.listed and flag == "vanished":
            seen.add_not_there(found.path)
        seen.listed_folders += found.entry_type == "directory" and flag != "vanished" and rules.names_folder(found.path)
        seen.entries.add(Entry(found.entry_type, *to_json_fields(found.path), flags=[flag] if flag is not None else None))
    return seen


def _may_read(found: Found) -> bool:
    return os.access(found.name, os.R_OK, dir_fd=found.dir_fd, effective_ids=os.access in os.supports_effective_ids)
