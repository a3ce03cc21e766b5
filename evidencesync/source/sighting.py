"""What a source looks like from outside, in one digest: for whoever wants to know whether it has changed since.

No file is opened. Folders are listed as a push lists them, without changing their access times where the system allows that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from evidencesync.errors import SourceNotFoundError, UsageError
from evidencesync.evidence.digest import new_blake3
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import SourceRoot, resolve_source
from evidencesync.source.walker import Found, walk

_BATCH = 512  # entries that are hashed at a time


@dataclass(frozen=True, slots=True)
class Sight:
    """A source at one look. `digest` (BLAKE3) differs when a name came, went or moved, or an inode was changed.

    `entries` counts what was looked at. `traces` counts folders whose access time the look may have changed.
    """

    digest: bytes
    entries: int
    traces: int


def look(root: bytes, rules: FilterRules, visit: Callable[[Found], None] = lambda _: None) -> Sight | None:
    """Looks at everything once, in flat memory; None where the source is not there. `visit` is shown each entry on the way.

    What goes in: the rules, and of each entry path, type, inode, mode, owner, size, modification and change time. A write that
    leaves all of these as they were is not seen: one through a memory map that is not yet synced, or a second one in the same
    tick of the file system's clock. What the rules leave out does not count; then the times of folders do not count either,
    for they tell of every name that comes and goes. Devices have no such state: raises UsageError.
    """
    try:
        require_watchable(resolve_source(root))
    except SourceNotFoundError:
        return None
    digest, entries, traces = new_blake3(), 0, 0
    with_folder_times = rules.is_empty and rules.listed is None
    batch = [repr(rules.lines()).encode()]
    try:
        for found in walk(root, rules):
            visit(found)
            entries += 1
            traces += not found.noatime
            if found.flag == "skipped":
                continue
            batch.append(_state(found, with_folder_times=with_folder_times))
            if len(batch) >= _BATCH:
                digest.update(b"".join(batch))
                batch.clear()
    except SourceNotFoundError:
        return None
    digest.update(b"".join(batch))
    return Sight(digest.digest(), entries, traces)


def require_watchable(source: SourceRoot) -> None:
    """Raises UsageError for what cannot be watched."""
    if source.is_device:
        raise UsageError("a device does not say when it has changed", hint="Acquire it with push, when that is wanted.")


def _state(found: Found, *, with_folder_times: bool) -> bytes:
    """One entry; its length goes first, so that no two lists of entries are the same bytes."""
    status = found.stat
    if found.flag is not None or status is None:
        facts = f"{found.flag} {found.errno}"
    else:
        facts = f"{status.st_ino} {status.st_mode} {status.st_uid} {status.st_gid}"
        if found.entry_type != "directory":
            facts += f" {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
        elif with_folder_times:
            facts += f" {status.st_mtime_ns} {status.st_ctime_ns}"
    state = b"%b\0%b\0%b" % (os.fsencode(found.entry_type), facts.encode("ascii"), found.path)
    return b"%d:%b" % (len(state), state)
