"""`show --files`: a page of an acquisition's entries, read as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from evidencesync.cli.files_outputs import FilesOutput
from evidencesync.cli.number_format import count_text, size_text
from evidencesync.custody.manifest import WholeEntry, whole_entries
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import from_json_fields, to_json_fields
from evidencesync.evidence.utc_time import format_moment, parse_file_time
from evidencesync.restore.wanted import PathSelection
from evidencesync.vault.catalog import opened_document
from evidencesync.vault.layout import MANIFEST

if TYPE_CHECKING:
    from evidencesync.vault.item import VaultItem

_BLOCK: Final = 1 << 20
_LETTERS: Final = {
    "file": "-",
    "directory": "d",
    "symlink": "l",
    "block-device": "b",
    "character-device": "c",
    "fifo": "p",
    "socket": "s",
}


def files_output(item: VaultItem, number: int, below: bytes | None, after: bytes | None, limit: int) -> FilesOutput:
    """At most `limit` entries that come after a path; with `below`, of one file or folder and what is in it.

    Raises NotThereError when `below` is not there, and what a manifest that is damaged raises.
    """
    selection = PathSelection(() if below is None else (below,))
    key = None if after is None else after.replace(b"/", b"\0")
    total, page, more = 0, list[Entry](), False
    last = b""
    with opened_document(item.layout, number, MANIFEST) as file:
        for whole in whole_entries(iter(partial(file.read, _BLOCK), b""), selection.takes):
            total += 1
            if key is not None and whole.path.replace(b"/", b"\0") <= key:
                continue
            if len(page) < limit:
                page.append(_joined(whole))
                last = whole.path
            else:
                more = True
    selection.check_found()
    following = to_json_fields(last) if more else (None, None)
    return FilesOutput(item.name.case.text, item.name.item.text, number, total, page, *following)


def files_lines(output: FilesOutput) -> Iterator[str]:
    """The page for people: mode, owner, size, modification time, path."""
    for entry in output.entries:
        path = safe_text(from_json_fields(entry.path, entry.path_b64)) or "."
        owner = f"{_name(entry.user, entry.uid)}:{_name(entry.group, entry.gid)}"
        size = "-" if entry.size is None else size_text(entry.size)
        yield f"{_LETTERS[entry.type]}{entry.mode or '----'}  {owner:<17}  {size:>9}  {_time(entry)}  {path}{_notes(entry)}"
    yield f"{count_text(len(output.entries), 'entry', 'entries')} of {output.total:,}; times are UTC" + (
        f"; go on with --after {safe_text(from_json_fields(output.next, output.next_b64))}"
        if output.next is not None or output.next_b64 is not None
        else ""
    )


def _joined(whole: WholeEntry) -> Entry:
    if whole.attributes is whole.entry.xattrs:
        return whole.entry
    return msgspec.structs.replace(whole.entry, xattrs=whole.attributes)


def _name(name: str | None, number: int | None) -> str:
    return safe_text(name, 20) if name is not None else "?" if number is None else str(number)


def _time(entry: Entry) -> str:
    if entry.mtime is None:
        return " " * 19
    try:
        return format_moment(parse_file_time(entry.mtime))[:19].replace("T", " ")
    except (OverflowError, ValueError):  # a year that no calendar of ours has
        return f"{entry.mtime.partition('.')[0]:>19}"


def _notes(entry: Entry) -> str:
    notes = ""
    if entry.target is not None or entry.target_b64 is not None:
        notes += f" -> {safe_text(from_json_fields(entry.target, entry.target_b64))}"
    if entry.hardlink_to is not None or entry.hardlink_to_b64 is not None:
        notes += f" = {safe_text(from_json_fields(entry.hardlink_to, entry.hardlink_to_b64))}"
    if entry.device_number is not None:
        notes += f" ({entry.device_number})"
    return notes + (f" [{', '.join(entry.flags)}]" if entry.flags else "")
