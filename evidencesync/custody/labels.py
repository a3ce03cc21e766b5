"""What documents call something, and what people call it: for every output that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.evidence.path import from_json_fields

if TYPE_CHECKING:  # `--help` shows labels, and must not load what documents need
    from evidencesync.custody.documents import BroughtAgent, Earlier, ManifestHeader

_PLURALS: Final = {
    "file": "files",
    "directory": "folders",
    "symlink": "symbolic links",
    "block-device": "block devices",
    "character-device": "character devices",
    "fifo": "named pipes",
    "socket": "sockets",
}
_SINGULARS: Final = {"directory": "folder", "symlink": "symbolic link", "fifo": "named pipe"}
FLAGS: Final = {
    "unreadable": "could not be read, or not whole",
    "vanished": "not there when it was read",
    "changed-while-read": "changed while it was read",
    "skipped": "left out by a filter",
    "listed-not-reached": "on the list, and not reached",
    "folder-changed-while-read": "a folder that changed while it was read",
    "access-time-changed": "access time changed by the reading",
    "metadata-unread": "metadata could not be read",
}
GAP_FLAGS: Final = ("unreadable", "vanished", "listed-not-reached", "changed-while-read", "folder-changed-while-read")
DIRECTIONS: Final = {
    "push": "pushed: from the source's machine to the vault's",
    "pull": "pulled: read from the vault's machine",
    "local": "source and vault on one machine",
}
# How far a vault looked for what it has, as a receipt states it. What lies beyond was not looked for.
LOOKUPS: Final = {"item": "this item", "case": "this case", "vault": "the vault"}
DIGESTS: Final = {"blake3": "BLAKE3", "sha256": "SHA-256"}
# Facts about a device, in the order in which a person looks for them.
_DEVICE: Final = {
    "vendor": "Make",
    "model": "Model",
    "serial": "Serial number",
    "wwn": "World Wide Name",
    "revision": "Firmware",
    "size": "Size",
    "logical_sector": "Sector size",
    "physical_sector": "Sector size on the medium",
    "read_only": "Write-protected",
    "in_use": "In use by",
    "bus": "Bus",
    "kind": "Kind",
    "disk": "Part of the disk",
    "partition": "Number of the partition",
    "start_sector": "Its first sector",
    "partition_table": "Partition table",
    "partition_table_id": "Id of the partition table",
    "partitions": "Partitions (name, first sector, sectors)",
    "partition_id": "Id of the partition",
    "file_system": "File system",
    "file_system_id": "Id of the file system",
    "removable": "Removable",
    "rotational": "Rotating",
    "backing_file": "File behind it",
    "number": "Device number",
    "sequence": "Sequence number of the disk",
}
_IN_BYTES: Final = frozenset({"size", "logical_sector", "physical_sector"})
_OPTIONS: Final = {
    "chunking": "How contents were cut",
    "read-back": "Read back from the vault's disk",
    "on-read-error": "In place of what could not be read",
    "captured": "Captured",
    "times": "Times of files",
}
_OPTION_VALUES: Final = {
    ("on-read-error", "zero"): "zeros",
    ("on-read-error", "fail"): "nothing: the transfer ends",
    ("on-read-error", "skip"): "nothing: it is left out",
    ("on-read-error", "kept"): "nothing: what came is kept, and flagged",
    ("on-read-error", "without-content"): "nothing: the file is kept without content",
    ("times", "whole seconds, modulo 2^32"): "whole seconds, in 32 bits: those before 1970 or after 2106 are not told",
}
_ABBREVIATIONS: Final = {"sha256": "SHA-256", "id": "id", "utc": "UTC", "url": "URL"}


def type_text(kind: str) -> str:
    """What an entry is, in words."""
    return _SINGULARS.get(kind, kind.replace("-", " "))


def counts_text(counts: Mapping[str, int]) -> str:
    """Counts of entries by type, in words; empty for none."""
    return ", ".join(f"{count:,} {type_text(kind) if count == 1 else _PLURALS.get(kind, kind)}" for kind, count in counts.items())


def entries_text(counts: Mapping[str, int], flags: Mapping[str, int], left_out: Mapping[str, int] | None = None) -> str:
    """Counts of a manifest's entries in words: what filters left out, and what had vanished, is told apart. Empty for none.

    `left_out` counts by type what filters left out. Where that is not known, it is a part of all that are counted.
    """
    skipped, vanished, apart = flags.get("skipped", 0), flags.get("vanished", 0), left_out or {}
    if sum(apart.values()) != skipped or any(count > counts.get(kind, 0) for kind, count in apart.items()):
        apart = {}
    kept = {kind: count - apart.get(kind, 0) for kind, count in counts.items()}
    said = [counts_text({kind: count for kind, count in kept.items() if count}) or ("nothing" if apart else "")]
    said += [f"of which {skipped:,} {'was' if skipped == 1 else 'were'} seen and left out"] if skipped and not apart else []
    said += [f"of which {vanished:,} {'was' if vanished == 1 else 'were'} not there when it was read"] if vanished else []
    said += [f"and {counts_text(apart)} that {'was' if skipped == 1 else 'were'} seen and left out"] if apart else []
    return ", ".join(filter(None, said))


def contents_text(counts: Mapping[str, int], files: int) -> str:
    """Of how many files the vault has content, where a manifest counts more than these; else empty."""
    listed = counts.get("file", 0) + counts.get("block-device", 0)
    return "" if files == listed else f"content of {counts_text({'file': files})}"


def earlier_text(earlier: Earlier, files: int, acquisition: int, when: str = "") -> str:
    """How many contents of an acquisition were not read in it, and since when they are known. `when`: of the oldest reading."""
    known = f"acquisition {earlier.oldest}{f' ({when})' if when else ''}{' or later' if earlier.oldest < acquisition - 1 else ''}"
    were, their = ("was", "its") if earlier.files == 1 else ("were", "their")
    of = f"{earlier.files:,} of {count_text(files, 'file')} ({size_text(earlier.bytes)})"
    return f"{of} {were} not read again: {their} content is as it was read in {known}"


def label_text(name: str) -> str:
    """The name of a detail or a fact as words: `serial_number` is `Serial number`. Safe to show."""
    words = [_ABBREVIATIONS.get(word, word) for word in name.replace("_", " ").split(" ")]
    text = " ".join(words)
    return safe_text(text[:1].upper() + text[1:], 80)


def digests_text(names: list[str]) -> str:
    """Names of digests as people write them. Safe to show."""
    return ", ".join(DIGESTS.get(name, safe_text(name)) for name in names)


def device_facts_text(facts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What is known of a device: labels and values that are safe to show. What has no label of its own comes last."""
    known = [name for name in _DEVICE if name in facts]
    for name in [*known, *(name for name in facts if name not in _DEVICE)]:
        value = facts[name]
        if name in _IN_BYTES and value.isascii() and value.isdecimal() and len(value) <= 20:
            size = f" ({size_text(int(value))})" if name == "size" else ""
            value = f"{int(value):,} bytes{size}"
        yield _DEVICE.get(name, label_text(name)), safe_text(value, 400)


def options_text(options: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """How an acquisition was made: labels and values that are safe to show."""
    for name, value in options.items():
        yield _OPTIONS.get(name, label_text(name.replace("-", " "))), _OPTION_VALUES.get((name, value), safe_text(value, 400))


def agent_text(agent: BroughtAgent) -> str:
    """What a pull brought to the source's machine, as people write it."""
    signed = f"signed by {agent.signed_by}" if agent.signed_by else "unsigned"
    return f"a bundle in {safe_text(agent.path, 400)}, {signed}; SHA-256 of its SHA256SUMS: {agent.sums_sha256}"


CAPTURED: Final = "captured"
"""The option in a manifest's header that says what was captured, where the source has no path."""


def source_text(header: ManifestHeader, host_limit: int | None = None, limit: int | None = None) -> str:
    """Where an acquisition came from, as people write it: machine and path, or what was captured on it."""
    source = header.source
    host = safe_text(source.host, host_limit)
    if (source.path, source.path_b64) != (None, None):
        return f"{host}:{safe_text(from_json_fields(source.path, source.path_b64), limit)}"
    captured = header.method.options.get(CAPTURED)
    return f"{host}:?" if captured is None else f"{host}, {safe_text(captured, limit)}"
