"""`diff`: what two acquisitions of an item have differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from evidencesync.cli.command import Run, command
from evidencesync.cli.options import ItemChoice, RemoteChoice, VaultAddress
from evidencesync.cli.reading import ReaderChoice, readable_vault, unread_is_incomplete
from evidencesync.errors import CommandKind
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.exit_codes import ExitCode

if TYPE_CHECKING:
    from evidencesync.cli.comparison_outputs import ChangedOutput, DiffOutput, FieldOutput, MovedOutput, SourceOutput
    from evidencesync.compare.acquisitions import AcquisitionDifference, Ranges
    from evidencesync.custody.differences import EntryDifference
    from evidencesync.custody.wholeness import SourceState
    from evidencesync.evidence.identity import ItemName

_TIMES: Final = frozenset({"mtime", "atime", "ctime", "btime"})
_PASSING: Final = frozenset({"atime", "btime", "ctime", "inode"})  # which change where a file is read, or copied back
_SHOWN_RANGES: Final = 5  # of one file, for people; `--json` has more


def add_commands(app: typer.Typer) -> None:
    """Adds `diff`."""
    command(
        app,
        "diff",
        "evidencesync diff /srv/vault 1 2 --case 2024-017 --item LAPTOP-1",
        "evidencesync diff ana@vault.lab:/srv/vault 1 2 --case 2024-017 --item LAPTOP-1 --limit 100000 --json",
        kind=CommandKind.SHOWS,
    )(diff)


def diff(
    run: Run,
    vault: VaultAddress,
    before: Annotated[int, typer.Argument(metavar="N", min=1, max=9999, help="The earlier acquisition.")],
    after: Annotated[int, typer.Argument(metavar="M", min=1, max=9999, help="The later acquisition.")],
    item: ItemChoice,
    reader: ReaderChoice,
    ssh: RemoteChoice,
    limit: Annotated[
        int, typer.Option(metavar="COUNT", min=0, max=1_000_000, help="How many differences of each kind to list.")
    ] = 1000,
) -> ExitCode:
    """Compares two acquisitions by their manifests: what was added, removed, moved, and changed, and where in a file.

    Nothing is verified, and no evidence is read: see `evidencesync verify`. The code is 0 whether or not there are differences.
    """
    from evidencesync.cli.catalog import load_state
    from evidencesync.cli.comparison_outputs import SourceOutput
    from evidencesync.cli.own_state import open_known_item
    from evidencesync.compare.acquisitions import compare_acquisitions

    name = item.name()
    with unread_is_incomplete(), readable_vault(run, vault, reader, ssh, (item.case, item.item), (before, after)) as readable:
        opened, code = open_known_item(run, readable.vault, readable.memory, name)
        first, second = opened.choose_acquisition(before), opened.choose_acquisition(after)
        found = compare_acquisitions(opened.layout, first, second, limit)
        states = [load_state(opened.layout, number)[0] for number in (first, second)]
    output = _output(name, first, second, found, *(SourceOutput(state.verdict, state.filtered) for state in states))
    run.console.print_result(output, [*diff_lines(output, every_one=run.console.verbose), *_state_lines((first, second), states)])
    return code


def _state_lines(numbers: tuple[int, int], states: list[SourceState]) -> Iterator[str]:
    """What each of the two lacks of its source, where it lacks anything."""
    for number, state in zip(numbers, states, strict=True):
        for part in state.parts:
            yield f"  acquisition {number}: {part}"
    if any(state.parts for state in states):
        yield "  What one of them could not read, or left out, is no difference of the source."


def _output(
    name: ItemName,
    before: int,
    after: int,
    found: AcquisitionDifference,
    before_source: SourceOutput,
    after_source: SourceOutput,
) -> DiffOutput:
    from evidencesync.cli.comparison_outputs import (
        DifferenceCounts,
        DiffOutput,
        LoneOutput,
        MetadataOutput,
        MovedOutput,
    )
    from evidencesync.evidence.path import to_json_fields

    return DiffOutput(
        case=name.case.text,
        item=name.item.text,
        before=before,
        after=after,
        before_source=before_source,
        after_source=after_source,
        counts=DifferenceCounts(
            same=found.same,
            added=found.added_count,
            removed=found.removed_count,
            moved=found.moved_count,
            changed=found.changed_count,
            metadata=found.metadata_count,
            filtered=found.filtered_count,
            not_read=found.not_read_count,
        ),
        added=[LoneOutput(*to_json_fields(one.path), one.type, one.size) for one in found.added],
        removed=[LoneOutput(*to_json_fields(one.path), one.type, one.size) for one in found.removed],
        moved=[MovedOutput(*to_json_fields(one.before), *to_json_fields(one.after), one.size) for one in found.moved],
        changed=[_changed(one, ranges) for one, ranges in found.changed],
        metadata=[MetadataOutput(*to_json_fields(one.path), _fields(one)) for one in found.metadata],
    )


def _changed(one: EntryDifference, ranges: Ranges | None) -> ChangedOutput:
    from evidencesync.cli.comparison_outputs import ChangedOutput
    from evidencesync.evidence.path import to_json_fields

    return ChangedOutput(
        *to_json_fields(one.path),
        fields=_fields(one),
        ranges=None if ranges is None else [(part.offset, part.length) for part in ranges.named],
        more_ranges=None if ranges is None else ranges.more,
        changed_bytes=None if ranges is None else ranges.bytes,
    )


def _fields(one: EntryDifference) -> list[FieldOutput]:
    from evidencesync.cli.comparison_outputs import FieldOutput

    return [FieldOutput(*change) for change in one.fields]


def diff_lines(output: DiffOutput, *, every_one: bool = True) -> Iterator[str]:
    """The differences for people: a line each, marked as `+`, `-`, `>`, `*` and `m`, and the counts last.

    Without `every_one`, what any copy has anew, and files that were moved together, are one line.
    """
    for lone in output.added:
        yield f"+ {_shown(lone.path, lone.path_b64)}{_extent(lone.type, lone.size)}"
    yield from _more("+", output.counts.added, output.added)
    for lone in output.removed:
        yield f"- {_shown(lone.path, lone.path_b64)}{_extent(lone.type, lone.size)}"
    yield from _more("-", output.counts.removed, output.removed)
    yield from _moved_lines(output.moved, every_one=every_one)
    yield from _more(">", output.counts.moved, output.moved)
    for changed in output.changed:
        yield f"* {_shown(changed.path, changed.path_b64)}{_ranges_text(changed)}"
        yield from _field_lines(changed.fields)
    yield from _more("*", output.counts.changed, output.changed)
    unnamed, passing = 0, set[str]()
    for one in output.metadata:
        fields = {change.field for change in one.fields}
        if not every_one and fields <= _PASSING:
            unnamed += 1
            passing |= fields
            continue
        yield f"m {_shown(one.path, one.path_b64)}"
        yield from _field_lines(one.fields)
    if unnamed:
        differing = " or ".join(sorted(passing))
        yield f"m {count_text(unnamed, 'entry', 'entries')} with nothing but another {differing} (-v names them)"
    yield from _more("m", output.counts.metadata, output.metadata)
    counts = output.counts
    yield f"{safe_text(output.case)} / {safe_text(output.item)}, acquisition {output.before} to {output.after}"
    yield (
        f"  {counts.added:,} added (+), {counts.removed:,} removed (-), {counts.moved:,} moved (>), "
        f"{counts.changed:,} changed (*), {counts.metadata:,} with other metadata (m), {counts.same:,} the same"
    )
    if counts.filtered:
        yield f"  {counts.filtered:,} not compared: a filter left them out of one of the two"
    if counts.not_read:
        yield f"  {counts.not_read:,} not compared: neither has read them whole (left out by a filter, or not readable)"


def _moved_lines(moved: Sequence[MovedOutput], *, every_one: bool) -> Iterator[str]:
    """What was moved; without `every_one`, files that went from one folder to another under their own names are one line."""
    from evidencesync.evidence.path import from_json_fields

    together: dict[tuple[bytes, bytes], list[MovedOutput]] = {}
    for one in moved:
        before, after = from_json_fields(one.before, one.before_b64), from_json_fields(one.after, one.after_b64)
        folders = _moved_folders(before, after)
        together.setdefault((before, after) if every_one or folders is None else folders, []).append(one)
    for (before, after), files in together.items():
        size = size_text(sum(one.size for one in files))
        if len(files) > 1:
            names = f"{safe_text(before) or '.'}/ -> {safe_text(after) or '.'}/"
            yield f"> {names}  ({count_text(len(files), 'file')}, {size}; -v names them)"
        else:
            (one,) = files
            yield f"> {_shown(one.before, one.before_b64)} -> {_shown(one.after, one.after_b64)}  ({size})"


def _moved_folders(before: bytes, after: bytes) -> tuple[bytes, bytes] | None:
    """The folders between which a file was moved, without the common ends of their paths; None for a file of another name."""
    one, other = before.split(b"/"), after.split(b"/")
    if one[-1] != other[-1]:
        return None
    while one and other and one[-1] == other[-1]:
        one.pop()
        other.pop()
    return b"/".join(one), b"/".join(other)


def _more(mark: str, count: int, named: Sequence[object]) -> Iterator[str]:
    if count > len(named):
        yield f"{mark} ... and {count - len(named):,} more (--limit)"


def _shown(path: str | None, encoded: str | None) -> str:
    from evidencesync.evidence.path import from_json_fields

    return safe_text(from_json_fields(path, encoded)) or "."


def _extent(kind: str, size: int | None) -> str:
    if size is None:
        return "  (file, which was not read)" if kind == "file" else f"  ({kind})"
    return f"  ({size_text(size)})"


def _ranges_text(changed: ChangedOutput) -> str:
    if changed.ranges is None or changed.changed_bytes is None:
        return ""
    if not changed.ranges:
        return f"  (at most {size_text(changed.changed_bytes)} differ)"
    shown = ", ".join(f"{offset:,} to {offset + length - 1:,}" for offset, length in changed.ranges[:_SHOWN_RANGES])
    more = len(changed.ranges) - _SHOWN_RANGES + (changed.more_ranges or 0)
    rest = f" and {count_text(more, 'more range')}" if more > 0 else ""
    return f"  (at most {size_text(changed.changed_bytes)} differ, within bytes {shown}{rest})"


def _field_lines(fields: list[FieldOutput]) -> Iterator[str]:
    for change in fields:
        if change.field not in ("blake3", "sha256"):
            yield f"    {change.field}: {_value(change.field, change.before)} -> {_value(change.field, change.after)}"


def _value(field: str, value: str | None) -> str:
    """A value as a manifest has it, but a time (seconds since 1970, with nine digits of fraction) as people write one."""
    if value is None:
        return "-"
    if field not in _TIMES:
        return value
    from evidencesync.evidence.utc_time import format_utc_time, parse_file_time

    nanoseconds = parse_file_time(value)
    try:
        return f"{format_utc_time(nanoseconds)[:19].replace('T', ' ')}.{nanoseconds % 10**9:09} UTC"
    except OverflowError:  # a year that no calendar has: a file may say so
        return value
