"""What `push --dry-run` and `pull --dry-run` print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from evidencesync.cli.number_format import kinds_text
from evidencesync.cli.outputs import FlaggedPath, Output, Problem
from evidencesync.cli.summary import alike_lines, empty_lines, flagged_lines, own_lines
from evidencesync.compare.planned import PlannedChange, PlannedChanges, PlannedField, PlannedKind
from evidencesync.custody.documents import AcquisitionNumber
from evidencesync.custody.wholeness import SourceState
from evidencesync.errors import EvidenceSyncError, NoSpaceError
from evidencesync.evidence.display import escape_line, safe_text
from evidencesync.evidence.entry import Count, EntryType, Remark
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.evidence.path import to_json_fields

if TYPE_CHECKING:
    from evidencesync.acquire.dry_run import DryRun
    from evidencesync.cli.console import Console
    from evidencesync.evidence.identity import ItemName
    from evidencesync.protocol.document_messages import RoomShown
    from evidencesync.source.filters import FilterRules

_REST: Final = "--json names the first 1,000 of each kind"
_MOST_ENTRIES: Final = 10_000  # of --itemize, in one JSON document
_ROWS: Final = 1000  # that are printed at once


class PlannedEntry(Output, frozen=True):
    """An entry that differs from the last acquisition, as far as its metadata tell. `fields`: what says that it has changed.

    `unread`: it cannot be read, or lies in a folder that cannot: it is not known whether it has changed.
    """

    change: PlannedKind
    type: EntryType
    size: Count | None
    fields: list[PlannedField]
    path: str | None
    path_b64: str | None


class PlannedMove(Output, frozen=True):
    """A file that may have been moved: both names, the sizes and the times are the same, and of no other file. A guess."""

    before: str | None
    before_b64: str | None
    after: str | None
    after_b64: str | None
    size: Count


class PlannedOutput(Output, frozen=True):
    """What differs from acquisition `since` (null: the vault has none), by names, types, sizes and times alone.

    Counts are of entries, bytes of the files among them. What may have been moved counts as added and as removed; `maybe_moved`
    is null where too much differs to look for it. `most_bytes` would travel if what looks the same is the same, less what the
    vault has of it; over SFTP all that is read travels. `entries` and `moves` are null without --itemize, and cut after 10,000.
    """

    since: AcquisitionNumber | None
    added: Count
    removed: Count
    changed: Count
    same: Count
    unread: Count
    filtered: Count
    maybe_moved: Count | None
    added_bytes: Count
    changed_bytes: Count
    same_bytes: Count
    most_bytes: Count
    entries: list[PlannedEntry] | None
    moves: list[PlannedMove] | None


class OutlookOutput(Output, frozen=True):
    """What an acquisition would meet, as the vault says. All but `vault_id` is null where that is too old to say.

    `acquisition`: the number that it would get; null also where it would be refused, or where an interrupted publish has to be
    completed first. `free_bytes`: for evidence, without the vault's reserve; null where its file system does not say.
    `needed_bytes`: what would be stored at the most. `fits`: null where that is not certain. `holder`: who acquires into the item
    just now. `refused`: with what it would end before it sends anything.
    """

    vault_id: str
    principal: str | None
    acquisition: AcquisitionNumber | None
    free_bytes: Count | None
    needed_bytes: Count | None
    fits: bool | None
    holder: str | None
    refused: Problem | None


class DryRunOutput(Output, frozen=True):
    """What would be taken of a source. `files` and `bytes` are what would be read, by the sizes that the files state.

    `entries` counts all by type, `flags` by flag; `listed_not_there` are names of a list that are not there,
    folders on the way to them included. `flagged` is cut after 1000 paths. `filters` are the rules as a manifest
    would state them, and `left_out` counts what each of them leaves out (a folder with all that is in it as one).
    `changes` and `vault` are null with --offline. `alike_*`: as for a push, where the vault says it. `checked` and `not_checked`
    say how far this can be relied on.
    """

    case: str
    item: str
    dry_run: Literal[True]
    verdict: Literal["complete", "gaps"]
    files: Count
    bytes: Count
    entries: dict[str, Count]
    flags: dict[str, Count]
    listed_not_there: Count
    remarks: dict[Remark, Count]
    flagged: list[FlaggedPath]
    filters: list[str]
    left_out: dict[str, Count]
    changes: PlannedOutput | None
    vault: OutlookOutput | None
    alike_items: list[str]
    alike_cases: list[str]
    checked: list[str]
    not_checked: list[str]


_NAMES: Final = "names, types and sizes of everything in the source"
_PERMISSIONS: Final = "permissions to read it, as the system states them"
_NO_PERMISSIONS: Final = "permissions to read it: over SFTP only the reading tells"
_UNREAD: Final = "the content: none of it was read, so nothing is known of bad sectors, or of changes while it is read"
_UNASKED: Final = (
    "the vault: it was not asked what it has, so what would travel may be much less; nor whether it would let you in"
)
_COMPARED: Final = "the last acquisition in the vault, by names, types, sizes and modification times"
_ASKED: Final = "your key, the item and the room, as the vault says"
_LOOKS_SAME: Final = "what has the same size and time: if its content is another one, more would travel"
_TOO_OLD: Final = "the room, and whether the vault takes another acquisition: its evidencesync is too old to say"
_UNFINISHED: Final = (
    "whether the vault takes another acquisition: a publish was interrupted, or is under way, which is completed first"
)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of an acquisition before it is made: what differs since another (None: the first), and what it would meet.

    `travels`: bytes of contents that would be sent at the most, `needed`: that would be stored at the most. `room`: None for a
    vault's end that is too old to say.
    """

    vault_id: str
    since: int | None
    changes: PlannedChanges
    travels: int
    needed: int
    room: RoomShown | None
    refused: EvidenceSyncError | None

    @property
    def fits(self) -> bool | None:
        """Whether there is room; None where that is not certain: zeros, and what the vault has already, take none."""
        if isinstance(self.refused, NoSpaceError):
            return False
        return True if self.room is not None and self.room.free is not None and self.needed <= self.room.free else None

    @property
    def checked(self) -> list[str]:
        """What was looked at in the vault."""
        return [*([_COMPARED] if self.since is not None else []), *([_ASKED] if self.room is not None else [])]

    @property
    def not_checked(self) -> list[str]:
        """What nobody has looked at."""
        found = [_LOOKS_SAME] if self.changes.same else []
        if self.room is None:
            found.append(_TOO_OLD)
        elif self.room.acquisition is None and self.room.refusal is None:
            found.append(_UNFINISHED)
        return found


class Itemized:
    """Prints, or keeps for a document, a line for each change, where that is `wanted`."""

    def __init__(self, console: Console, *, wanted: bool) -> None:
        self._console = console
        self._rows: list[str] = []
        self._wanted = wanted
        self.entries: list[PlannedEntry] | None = [] if wanted else None
        """The first changes, for a document."""
        self.moves: list[PlannedMove] | None = [] if wanted else None
        """The first pairs that may have been moved."""

    def add(self, change: PlannedChange) -> None:
        """Takes the next change."""
        if self.entries is None:
            return
        if not self._console.as_json:
            self._print(_row(change.kind, change.type, change.size, ",".join(change.fields), _shown(change.path)))
        elif len(self.entries) < _MOST_ENTRIES:
            fields = list(change.fields)
            self.entries.append(PlannedEntry(change.kind, change.type, change.size, fields, *to_json_fields(change.path)))

    def finish(self, changes: PlannedChanges) -> None:
        """Adds what may have been moved, and prints the rest."""
        if self.moves is None:
            return
        for before, after, size in changes.moves or ():
            if not self._console.as_json:
                self._print(_row("moved?", "file", size, "", f"{_shown(before)} -> {_shown(after)}"))
            elif len(self.moves) < _MOST_ENTRIES:
                self.moves.append(PlannedMove(*to_json_fields(before), *to_json_fields(after), size))
        self._flush()

    def _print(self, row: str) -> None:
        self._rows.append(row)
        if len(self._rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        self._console.print_rows(self._rows)
        self._rows.clear()


def _row(what: str, kind: str, size: int | None, why: str, path: str) -> str:
    return f"{what:<8} {kind:<9} {'-' if size is None else size_text(size):>9}  {why or '-':<9}  {path}"


def _shown(path: bytes) -> str:
    return safe_text(path) or "."


def dry_run_output(
    name: ItemName,
    rules: FilterRules,
    seen: DryRun,
    outlook: Outlook | None,
    itemized: Itemized,
    alike: tuple[list[str], list[str]],
) -> DryRunOutput:
    """The survey as a document. `alike`: numbers of items and cases that a new item may be mistaken for."""
    tally, entries = seen.tally, seen.tally.manifest
    gaps = SourceState.of(entries.flags, entries.remarks).verdict == "gaps"
    return DryRunOutput(
        case=name.case.text,
        item=name.item.text,
        dry_run=True,
        verdict="gaps" if gaps else "complete",
        files=seen.files,
        bytes=seen.size,
        entries=entries.counts,
        flags=entries.flags,
        listed_not_there=tally.not_there_count,
        remarks=entries.remarks,
        flagged=[FlaggedPath(flag, *to_json_fields(path)) for path, flag in tally.flagged],
        filters=rules.lines(),
        left_out=dict(seen.left_out),
        changes=None if outlook is None else _planned_output(outlook, itemized),
        vault=None if outlook is None else _outlook_output(outlook),
        alike_items=alike[0],
        alike_cases=alike[1],
        checked=[_NAMES, *([] if seen.over_sftp else [_PERMISSIONS]), *(outlook.checked if outlook is not None else [])],
        not_checked=[
            _UNREAD,
            *([_NO_PERMISSIONS] if seen.over_sftp else []),
            *(outlook.not_checked if outlook is not None else [_UNASKED]),
        ],
    )


def _planned_output(outlook: Outlook, itemized: Itemized) -> PlannedOutput:
    found = outlook.changes
    return PlannedOutput(
        since=outlook.since,
        added=found.added,
        removed=found.removed,
        changed=found.changed,
        same=found.same,
        unread=found.unread,
        filtered=found.left_out,
        maybe_moved=None if found.moves is None else len(found.moves),
        added_bytes=found.added_bytes,
        changed_bytes=found.changed_bytes,
        same_bytes=found.same_bytes,
        most_bytes=outlook.travels,
        entries=itemized.entries,
        moves=itemized.moves,
    )


def _outlook_output(outlook: Outlook) -> OutlookOutput:
    room, refused = outlook.room, outlook.refused
    return OutlookOutput(
        vault_id=outlook.vault_id,
        principal=None if room is None else safe_text(room.principal),
        acquisition=None if room is None else room.acquisition,
        free_bytes=None if room is None else room.free,
        needed_bytes=None if room is None else outlook.needed,
        fits=outlook.fits,
        holder=None if room is None or room.holder is None else safe_text(room.holder),
        refused=None if refused is None else Problem(refused.slug, escape_line(refused.message)),
    )


def dry_run_lines(
    name: ItemName, rules: FilterRules, output: DryRunOutput, seen: DryRun, *, everything: bool = False
) -> Iterator[str]:
    """The survey for people; with `everything` what filters leave out is named."""
    yield f"{name}: DRY RUN, nothing was sent and nothing written"
    since = "" if output.changes is None else f"; {_changes_text(output.changes)}"
    yield f"  would read   {count_text(output.files, 'file')}, {size_text(output.bytes)}{since}"
    yield f"  entries      {kinds_text(output.entries, output.flags)}"
    if output.changes is not None:
        yield from _planned_lines(output.changes, over_sftp=seen.over_sftp)
    if output.vault is not None:
        yield from _outlook_lines(output.vault)
    for line in output.filters:
        yield f"  filter       {line}{_effect(line, seen.left_out)}"
    yield from alike_lines(name, output.alike_items, output.alike_cases)
    yield from own_lines(rules)
    yield from empty_lines(seen.tally.manifest)
    yield from flagged_lines(seen.tally, rules, left_out=everything, rest=_REST)
    for line in output.checked:
        yield f"  checked      {line}"
    for line in output.not_checked:
        yield f"  NOT checked  {line}"


def _changes_text(found: PlannedOutput) -> str:
    if found.since is None:
        return "the vault has no acquisition of this item"
    counts = {"added": found.added, "removed": found.removed, "changed": found.changed}
    said = [f"{count:,} {what}" for what, count in counts.items() if count]
    if found.unread:
        said.append(f"{found.unread:,} not known")
    if found.filtered:
        said.append(f"{found.filtered:,} left out of one of both by a filter or a list")
    since = f"acquisition {found.since}"
    return f"since {since}: {', '.join(said)}" if said else f"nothing seems to have changed since {since}"


def _planned_lines(found: PlannedOutput, *, over_sftp: bool) -> Iterator[str]:
    if found.same:
        same = f"{count_text(found.same, 'entry', 'entries')}, {size_text(found.same_bytes)}"
        yield f"  the same     {same}, by size and time; when it is acquired, every byte is read and compared"
    if found.maybe_moved:
        yield f"  moved?       {found.maybe_moved:,} of the added files may be removed ones: name, size and time are the same"
    what = "over SFTP all that is read travels" if over_sftp else "what is added or changed, less what the vault has of it"
    yield f"  would send   at most {size_text(found.most_bytes)}: {what}"


def _outlook_lines(found: OutlookOutput) -> Iterator[str]:
    if found.principal is None:
        return
    number = "" if found.acquisition is None else f"; this would be acquisition {found.acquisition}"
    yield f"  vault        knows you as {found.principal}{number}"
    if found.free_bytes is not None:
        yield f"  room         {size_text(found.free_bytes)} for evidence{': enough' if found.fits else ''}"
        if found.fits is None:
            needed = size_text(found.needed_bytes or 0)
            yield f"  WARNING      it may not fit: {needed} at most; zeros, and what the vault has already, take no room"
    if found.holder is not None:
        yield f"  WARNING      another transfer of this item is under way: {found.holder}"
    if found.refused is not None:
        yield f"  REFUSED      it would end before anything is sent: {found.refused.message}"


def _effect(line: str, left_out: Mapping[str, int]) -> str:
    """What a rule leaves out, where it could leave out something: a pattern that matches nothing may be mistyped."""
    if line in left_out:
        return f": leaves out {count_text(left_out[line], 'entry', 'entries')}"
    return ": leaves out nothing" if line.startswith("exclude ") and not line.startswith("exclude !") else ""
