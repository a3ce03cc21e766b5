"""Reads from a vault's documents what `list`, `show` and `show --files` print."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from evidencesync.acquire.known_heads import KnownHeads, code_of
from evidencesync.cli.outputs import (
    ListedAcquisition,
    ListedItem,
    ListOutput,
    Output,
    Problem,
    ShownRecord,
    ShowOutput,
    transfer_outputs,
)
from evidencesync.custody.captures import origin_words
from evidencesync.custody.documents import AcquisitionNumber
from evidencesync.custody.manifest import WholeEntry, whole_entries
from evidencesync.custody.record import decode_record
from evidencesync.custody.wholeness import SourceState, is_count
from evidencesync.errors import (
    ChainError,
    EvidenceSyncError,
    MalformedDocumentError,
    MissingOrExtraError,
    SignatureError,
    WrongVaultError,
)
from evidencesync.evidence.display import escape_line, safe_text, shell_text
from evidencesync.evidence.entry import Count, Entry
from evidencesync.evidence.identity import Title
from evidencesync.evidence.number_format import count_text, notebook_fingerprint, size_text
from evidencesync.evidence.path import from_json_fields, to_json_fields, walk_order
from evidencesync.evidence.utc_time import format_utc_time, parse_file_time
from evidencesync.exit_codes import ExitCode
from evidencesync.files.disk import load_file, opened_folder
from evidencesync.ingest.transfers import find_transfers
from evidencesync.limits import MAX_RECORD
from evidencesync.restore.wanted import PathSelection
from evidencesync.vault.absent import nothing_of, removed_acquisition, require_acquisition_folder
from evidencesync.vault.catalog import (
    acquisition_numbers,
    case_folders,
    item_folders,
    load_footer,
    load_header,
    load_receipt,
    read_published,
    recorded_acquisitions,
    require_no_link,
    shown_name,
    stored_name,
)
from evidencesync.vault.heads import require_stated
from evidencesync.vault.layout import ACQUIRED, MAX_ACQUISITION, ItemLayout, VaultLayout
from evidencesync.vault.ledger import Ledger, iter_records
from evidencesync.vault.stated import StatedHead
from evidencesync.vault.vault import Vault

if TYPE_CHECKING:
    from evidencesync.custody.documents import ManifestFooter
    from evidencesync.localstate.heads import HeadMemory
    from evidencesync.vault.item import VaultItem


def list_output(
    vault: Vault,
    memory: HeadMemory,
    case: str | None = None,
    item: str | None = None,
    may_show: Callable[[str], bool] = lambda _: True,
) -> tuple[ListOutput, set[ExitCode]]:
    """All that a vault, a case or an item holds or is known to have held, and the exit codes of what is gone or unreadable.

    A damaged item hides no other item, nor does a case that cannot be read. What was removed is listed with its problem, as far
    as the vault's own chain, an item's chain or `memory` tell. `may_show`: whether the vault shows a case, by its folder: what it
    does not show is not missing. Raises NotThereError for a case or an item that is unknown.
    """
    wanted = _Wanted.of(case, item, may_show)
    known = KnownHeads(memory, vault)
    problems = {code_of(error) for error in known.problems}
    items = _list_items(vault, known, wanted, problems)
    if case is not None and not items:
        error = nothing_of(vault.layout, Title(case), None if item is None else Title(item))
        items = _list_items(vault, known, wanted, problems)  # once more: a first push may have ended meanwhile
        if not items:
            raise error
    settings = vault.settings
    transfers = transfer_outputs([one for one in find_transfers(vault.layout) if wanted.takes(one.case, one.item)])
    sequence, sha256 = (None, None) if known.own is None else (known.own.sequence, known.own.sha256)
    worst = known.worst_problem()
    problem = None if worst is None else _problem(worst)
    return ListOutput(settings.id, settings.name, vault.shown_key, sequence, sha256, items, problem, transfers), problems


class _Wanted(NamedTuple):
    """The case and item that are asked for, by number and by folder; None: all of them."""

    titles: tuple[str | None, str | None]
    case: str | None
    item: str | None
    may_show: Callable[[str], bool]

    @classmethod
    def of(cls, case: str | None, item: str | None, may_show: Callable[[str], bool]) -> _Wanted:
        of_case, of_item = (None if title is None else Title(title).folder for title in (case, item))
        return cls((case, item), of_case, of_item, may_show)

    def takes(self, case: str, item: str | None = None) -> bool:
        """Whether a case's folder, or an item's in it, is asked for."""
        return self.case in (None, case) and (item is None or self.item in (None, item))

    def is_about(self, listed: ListedItem) -> bool:
        """Whether an item has the numbers, and not others of the same folder. True where its own cannot be read."""
        own = (listed.case, listed.item)
        return None in own or all(title in (None, number) for title, number in zip(self.titles, own, strict=True))


def _list_items(vault: Vault, known: KnownHeads, wanted: _Wanted, problems: set[ExitCode]) -> list[ListedItem]:
    items, listed_places, unread_cases = [], set[str](), set[str]()
    for case in filter(wanted.takes, case_folders(vault.layout)):
        try:
            names = item_folders(vault.layout, case)
        except EvidenceSyncError as error:
            problems.add(code_of(error))
            items.append(ListedItem(None, None, case, None, None, [], _problem(error)))
            unread_cases.add(case)
            continue
        for item in names:
            place = f"{case}/{item}"
            if not wanted.takes(case, item):
                continue
            listed = _list_item(vault.layout, place, known.of(place), problems)
            if listed is not None:
                listed_places.add(place)
                if wanted.is_about(listed):
                    items.append(listed)
    for place in known.places:
        case, _, item = place.partition("/")
        if place not in listed_places and case not in unread_cases and wanted.takes(case, item) and wanted.may_show(case):
            problem = _unlisted(vault.layout, place, max(known.of(place)))
            problems.add(code_of(problem))
            items.append(ListedItem(None, None, place, None, None, [], _problem(problem)))
    return items


def _unlisted(vault: VaultLayout, place: str, last: StatedHead) -> EvidenceSyncError:
    """What is said of an item that was not found, and whose record `last` is known."""
    try:
        require_no_link(vault, *place.split("/"))
    except EvidenceSyncError as error:
        return error
    return ChainError(f"{last.witness} that this item had {count_text(last.sequence, 'custody record')}; it is gone")


def show_output(item: VaultItem, acquisition: int | None, shown_path: Callable[[Path], str] = str) -> ShowOutput:
    """One acquisition, by default the last. `shown_path` says where a folder lies.

    Raises NotThereError, and what a document that is damaged raises.
    """
    number = item.choose_acquisition(acquisition)
    header, receipt = item.header(number), load_receipt(item.layout, number)
    state, footer = load_state(item.layout, number)
    custody = [ShownRecord(stored.record, stored.sha256) for stored in iter_records(item.ledger)]
    if not custody:
        raise MissingOrExtraError(f"{item.name} has no custody records", hint="Run: evidencesync verify VAULT")
    return ShowOutput(
        case=header.case,
        item=header.item,
        acquisition=number,
        folder=safe_text(shown_path(item.layout.acquisition(number))),
        fingerprint=notebook_fingerprint(receipt.manifest_sha256),
        manifest_sha256=receipt.manifest_sha256,
        verdict=state.verdict,
        filtered=state.filtered,
        entries=sum(footer.counts.values()),
        header=header,
        footer=footer,
        receipt=receipt,
        custody=custody,
        chain_head_sha256=custody[-1].sha256,
    )


def load_state(item: ItemLayout, number: int) -> tuple[SourceState, ManifestFooter]:
    """How much of its source a published acquisition has. Raises MissingOrExtraError, MalformedDocumentError, ChainError."""
    header, footer = load_header(item, number), load_footer(item, number)
    with opened_folder(item.acquisition(number)) as folder:
        data = load_file(folder, ACQUIRED, MAX_RECORD)
    if data is None:
        raise MissingOrExtraError(f"acquisition {number} has no {ACQUIRED}")
    try:
        stated = decode_record(data).details.get("bytes_not_readable", "")
    except MalformedDocumentError as error:
        chained = [file for file in Ledger(item.custody).files() if file.kind == "acquired"][number - 1 : number]
        if chained and Ledger(item.custody).load(chained[0]).data != data:
            raise ChainError(f"{ACQUIRED} of acquisition {number} is not the record that the custody chain has") from error
        raise
    return SourceState.of_manifest(header, footer, int(stated) if is_count(stated) else 0), footer


def _list_item(vault: VaultLayout, folder: str, known: set[StatedHead], problems: set[ExitCode]) -> ListedItem | None:
    """One item; None for one without an acquisition or a record.

    The chain is read before the acquisitions are listed: what is published meanwhile seems neither missing nor removed.
    """
    layout = ItemLayout(vault.cases / folder)
    ledger = Ledger(layout.custody)
    problem: EvidenceSyncError | None = None
    try:
        for name_of_folder in (layout.custody.name, layout.acquisitions.name):
            require_no_link(vault, *folder.split("/"), name_of_folder)
        name = stored_name(layout)
        if name is None:
            return None
        if name.place != folder:
            raise WrongVaultError(f"its custody records are about {name}, whose folder has another name")
        try:
            head = require_stated(ledger, "its custody chain", known)
        except (ChainError, SignatureError) as error:
            problem = error
            problems.add(code_of(error))
            head = ledger.head()
        recorded = recorded_acquisitions(layout)
        numbers = acquisition_numbers(layout, recorded)
    except WrongVaultError as error:
        problems.add(code_of(error))
        return ListedItem(None, None, folder, None, None, [], _problem(problem or error))
    except EvidenceSyncError as error:
        problems.add(code_of(error))
        return what_is_there(vault, folder, problem or error, problems)
    gone = {*range(1, min(recorded, MAX_ACQUISITION) + 1)} - {*numbers}
    acquisitions = [
        *(_list_acquisition(layout, number, problems) for number in numbers),
        *(_problem_acquisition(number, removed_acquisition("the item", number), problems) for number in gone),
    ]
    return ListedItem(
        case=name.case.text,
        item=name.item.text,
        folder=folder,
        records=head.sequence,
        chain_head_sha256=head.sha256,
        acquisitions=sorted(acquisitions, key=lambda one: one.acquisition),
        problem=None if problem is None else _problem(problem),
    )


def what_is_there(vault: VaultLayout, folder: str, problem: EvidenceSyncError, problems: set[ExitCode]) -> ListedItem:
    """An item whose chain is damaged, with the acquisitions that lie there all the same. A link in its place is not followed."""
    layout, name, numbers = ItemLayout(vault.cases / folder), None, list[int]()
    with contextlib.suppress(EvidenceSyncError):
        for inner in (layout.custody.name, layout.acquisitions.name):
            require_no_link(vault, *folder.split("/"), inner)
        name, numbers = shown_name(layout), acquisition_numbers(layout)
    if name is not None and name.place != folder:
        name = None
    case, item = (None, None) if name is None else (name.case.text, name.item.text)
    acquisitions = [_list_acquisition(layout, number, problems) for number in numbers]
    return ListedItem(case, item, folder, None, None, acquisitions, _problem(problem))


def _list_acquisition(layout: ItemLayout, number: int, problems: set[ExitCode]) -> ListedAcquisition:
    try:
        require_acquisition_folder(layout, number)
        receipt = load_receipt(layout, number)
        state, footer = load_state(layout, number)
    except EvidenceSyncError as error:
        return _problem_acquisition(number, error, problems)
    return ListedAcquisition(
        acquisition=number,
        received=receipt.finished,
        files=receipt.points.arrival.files,  # an agentless pull does not take that of the source
        bytes=receipt.points.arrival.bytes,
        manifest_sha256=receipt.manifest_sha256,
        fingerprint=notebook_fingerprint(receipt.manifest_sha256),
        verdict=state.verdict,
        flags=footer.flags,
        remarks=footer.remarks or {},
        filtered=state.filtered,
        bytes_not_readable=state.unread_bytes,
        problem=None,
        earlier=footer.earlier,
    )


def _problem_acquisition(number: int, error: EvidenceSyncError, problems: set[ExitCode]) -> ListedAcquisition:
    problems.add(code_of(error))
    return ListedAcquisition(number, None, None, None, None, None, None, None, None, None, None, _problem(error))


def _problem(error: EvidenceSyncError) -> Problem:
    return Problem(error.slug, escape_line(error.message))


class FilesOutput(Output, frozen=True):
    """A page of the entries of an acquisition, as its manifest has them (attributes joined). Nothing of it is verified.

    `total` counts all that were asked for. Where this page is not the last, `next` (or `next_b64`) is what to give to `--after`.
    """

    case: str
    item: str
    acquisition: AcquisitionNumber
    total: Count
    entries: list[Entry]
    next: str | None
    next_b64: str | None


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
    key = None if after is None else walk_order(after)
    total, page, more = 0, list[Entry](), False
    last = b""
    for whole in whole_entries(read_published(item.layout, number), selection.takes):
        total += 1
        if key is not None and walk_order(whole.path) <= key:
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
    owners = [f"{_name(entry.user, entry.uid)}:{_name(entry.group, entry.gid)}" for entry in output.entries]
    wide = max(map(len, owners), default=0)
    for entry, owner in zip(output.entries, owners, strict=True):
        path = safe_text(from_json_fields(entry.path, entry.path_b64)) or "."
        size = "-" if entry.size is None else size_text(entry.size)
        yield f"{_LETTERS[entry.type]}{entry.mode or '----'}  {owner:<{wide}}  {size:>9}  {_time(entry)}  {path}{_notes(entry)}"
    yield f"{count_text(len(output.entries), 'entry', 'entries')} of {output.total:,}; times are UTC" + (
        f"; go on with --after {shell_text(from_json_fields(output.next, output.next_b64) or '.')}"
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
        return format_utc_time(parse_file_time(entry.mtime))[:19].replace("T", " ")
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
    if entry.read_in is not None:
        notes += f" [read in acquisition {entry.read_in}]"
    if entry.capture is not None:
        notes += f" <- {safe_text(origin_words(entry.capture), 300)}"
    return notes + (f" [{', '.join(entry.flags)}]" if entry.flags else "")
