"""Counts what would be acquired, from names and metadata alone: no content and no link is read, and nothing is written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from evidencesync.acquire.reading import SourceTally
from evidencesync.custody.manifest import WholeEntry
from evidencesync.evidence.entry import Entry, Flag
from evidencesync.evidence.path import to_json_fields
from evidencesync.evidence.utc_time import format_file_time
from evidencesync.source.device import find_device, geometry_of
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import SourceRoot
from evidencesync.source.walker import Found, walk


class Surveyed(NamedTuple):
    """An entry with type, size, modification time and flags; the first one is also known by its inode.

    `rule`: what leaves it out, as `FilterRules.why_skipped` says.
    """

    path: bytes
    entry: Entry
    rule: str | None = None


@dataclass(slots=True)
class DryRun:
    """Counts of a source. `files` and `size` (bytes) are of the files that would be read.

    `tally` has what would not be read whole, including listed names that cannot be reached. `left_out` counts what is left out
    by each rule. `over_sftp`: nobody looks whether files can be read, and all that is read travels.
    """

    tally: SourceTally = field(default_factory=SourceTally)
    files: int = 0
    size: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    over_sftp: bool = False

    def add(self, found: Surveyed) -> WholeEntry:
        """Counts an entry, and returns it as a manifest would have it, without its content."""
        path, entry, rule = found
        for flag in entry.flags or ():
            self.tally.add_flag(path, flag)
        if rule is not None:
            self.left_out[rule] += 1
        if not entry.flags and entry.size is not None:
            self.files += 1
            self.size += entry.size
        self.tally.manifest.add(entry)
        return WholeEntry(path, entry, None)


def plan_acquisition(source: SourceRoot, rules: FilterRules) -> DryRun:
    """Walks a source, and returns what was counted. Raises as `survey` does."""
    seen = DryRun()
    for _ in survey(source, rules, seen):
        pass
    return seen


def survey(source: SourceRoot, rules: FilterRules, seen: DryRun) -> Iterator[WholeEntry]:
    """Walks a source as `look` does, counts all of it in `seen`, and yields its entries."""
    return map(seen.add, look(source, rules, seen.tally))


def look(source: SourceRoot, rules: FilterRules, tally: SourceTally) -> Iterator[Surveyed]:
    """Walks a source, opening folders as a push would, and yields its entries in the manifest's order.

    Whether a file can be read is taken from its permissions. A device is opened to find its size, and not read. `tally` gets
    remarks, and listed names that are not there. Raises SourceNotFoundError.
    """
    device, is_known = -1, False

    def record_unreached(path: bytes) -> None:
        tally.manifest.remark("listed-not-reached", 1)
        tally.add_flag(path, "vanished")
        tally.add_not_there(path)

    there = find_device(source) if source.is_device else walk(source.path, rules, unreached=record_unreached)
    for found in there:
        if not found.path and found.stat is None:  # the folder above a single file: not part of the source
            continue
        flag = found.flag
        if not found.path and found.stat is not None:
            device = found.stat.st_dev
        if not found.noatime and found.stat is not None:
            tally.manifest.remark("access-time-changed", os.fstat(found.folder_fd).st_atime_ns != found.stat.st_atime_ns)
        is_file = not source.is_device and found.entry_type == "file" and found.stat is not None
        if flag is None and is_file and not _may_read(found):
            flag = "unreadable"
        rule = None
        if flag == "skipped" and found.stat is not None:
            above = os.fstat(found.dir_fd)
            own = rules.is_own((above.st_dev, above.st_ino), found.name)
            rule = rules.why_skipped(found.path, found.stat, device, own=own)
        if found.listed and flag == "vanished":
            tally.add_not_there(found.path)
        tally.listed_folders += found.entry_type == "directory" and flag != "vanished" and rules.names_folder(found.path)
        entry = _entry(found, flag, geometry_of(source).size if source.is_device else None)
        yield Surveyed(found.path, entry if is_known else _known_by_inode(entry, found), rule)
        is_known = True


def _entry(found: Found, flag: Flag | None, device_size: int | None) -> Entry:
    is_file = found.entry_type == "file" and found.stat is not None
    return Entry(
        found.entry_type,
        *to_json_fields(found.path),
        size=found.stat.st_size if is_file and found.stat is not None else device_size,
        mtime=format_file_time(found.stat.st_mtime_ns) if found.stat is not None else None,
        flags=[flag] if flag is not None else None,
    )


def _known_by_inode(entry: Entry, found: Found) -> Entry:
    if found.stat is None:
        return entry
    device, inode, ctime = str(found.stat.st_dev), str(found.stat.st_ino), format_file_time(found.stat.st_ctime_ns)
    return msgspec.structs.replace(entry, device=device, inode=inode, ctime=ctime)


def _may_read(found: Found) -> bool:
    return os.access(found.name, os.R_OK, dir_fd=found.dir_fd, effective_ids=os.access in os.supports_effective_ids)
