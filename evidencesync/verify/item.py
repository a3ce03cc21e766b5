"""Checks one item: its folders, its chain, and every selected acquisition."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Final

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.record import decode_record
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import Title
from evidencesync.evidence.meant import numbers_text
from evidencesync.limits import MAX_RECORD, MAX_SIGNATURE
from evidencesync.vault.interrupted import is_begun_item, left_by_append
from evidencesync.vault.layout import (
    ACQUIRED,
    ACQUIRED_SIGNATURE,
    ACQUISITIONS,
    CHUNKS,
    CUSTODY,
    INCOMING,
    ITEM_FOLDERS,
    RECEIVED,
    RECEIVED_SIGNATURE,
    acquisition_folder,
    acquisition_number,
    parse_record_file,
)
from evidencesync.vault.reservations import MAX_RESERVATION, NewRecord
from evidencesync.vault.staging import is_session_id
from evidencesync.verify.acquisition import Expected, check_acquisition, check_receipt_form, hash_recipes
from evidencesync.verify.chains import ChainReader
from evidencesync.verify.checks import Check
from evidencesync.verify.context import Context
from evidencesync.verify.documents import CheckedFolder
from evidencesync.verify.findings import Findings, Head, Reporter
from evidencesync.verify.timestamps import Later

_NO_TITLES: Final = ("", "")
_MAX_RECIPE_FILES: Final = 500  # open descriptors; the usual limit for a process is 1024


@dataclass(frozen=True, slots=True)
class ItemFolder:
    """The names of a case's and an item's folder, and the selected acquisition (None: all).

    `asked` are the exact case and item that were selected (None: any): two numbers can make the same folder name.
    """

    case: str
    item: str
    acquisition: int | None
    asked: tuple[str | None, str | None] = (None, None)


def check_item(context: Context, folder: CheckedFolder, where: ItemFolder) -> None:
    """Checks an item by its open folder.

    1. Its folders, and nothing else (check 1).  2. Its chain (3), read before the acquisitions are listed, and read on after
    that: so what is published meanwhile is neither missing nor unknown to the chain.  3. What is published is what the chain
    records (1, 3, 10), and the chain is no older than the vault's own states (3).  4. Each acquisition (4 to 9).
    """
    context.counts.items += 1
    if (where.case, where.item) not in context.stated_heads and _is_begun(folder):
        folder.report.report(Check.STRUCTURE, "empty-item", "the making of the item's folders was interrupted")
        return
    folder.report_extras(ITEM_FOLDERS)  # 1.
    custody = folder.enter(CUSTODY, folder.report.inside(CUSTODY))
    _check_incoming(folder)
    if custody is None:
        folder.report.report(Check.CUSTODY, "not-compared", "without a custody chain nothing of the item can be judged")
        stated = context.stated_heads.get((where.case, where.item), {})
        if stated and folder.listed and CUSTODY.encode() not in folder.names:
            text = (
                f"the vault's own chain says that this item had {max(stated)} records, up to {stated[max(stated)]}; they are gone"
            )
            folder.report.report(Check.CUSTODY, "rolled-back", text)
        return
    with custody:
        _Item(context, folder, where, custody).check()


def _is_begun(folder: CheckedFolder) -> bool:
    """Whether a crash interrupted the making of the item's folders."""
    empty: dict[str, bool] = {}
    for raw in folder.names if folder.listed else ():
        inside = folder.peek(name := raw.decode("utf-8", "replace"))
        empty[name] = False
        if inside is not None:
            with inside:
                empty[name] = inside.listed and not inside.names
    return folder.listed and is_begun_item(empty)


def _check_incoming(folder: CheckedFolder) -> None:
    """Checks the folder for transfers. It is empty between them, and so some tools that copy vaults leave it out."""
    if folder.listed and INCOMING.encode() not in folder.names:
        folder.report.inside(INCOMING).report(Check.STRUCTURE, "no-incoming", "the folder for transfers is not there")
        return
    incoming = folder.enter(INCOMING, folder.report.inside(INCOMING))
    if incoming is not None:
        with incoming:
            _check_staging_areas(incoming)


def _check_staging_areas(incoming: CheckedFolder) -> None:
    for raw in sorted(incoming.names):
        kind = incoming.names[raw]
        if kind == "folder" and is_session_id(raw.decode("utf-8", "replace")):
            text = "staging of a transfer that runs now, or never ended; not evidence, and not checked"
            incoming.report.report(Check.PUBLISHING, "unfinished-transfer", text, raw)
        else:
            incoming.report.report(Check.STRUCTURE, "extra-entry", f"a {kind} that is no staging area", raw)


class _Item:
    """An item whose folder and custody folder are open."""

    def __init__(self, context: Context, folder: CheckedFolder, where: ItemFolder, custody: CheckedFolder) -> None:
        self._context = context
        self._where = where
        self._folder = folder
        self._custody = custody
        self._report = folder.report
        self._titles = _titles_of_chain(custody)
        self._chain = self._new_chain()
        self._is_asked_for = True
        self._unfinished: int | None = None
        self._linked = 0  # the last record in the chain's own folder

    def check(self) -> None:
        """Does steps 2 to 4."""
        if self._titles != _NO_TITLES:
            self._use_titles()
            self._chain.read_folder(self._custody, self._reaching)  # 2.
        acquisitions = self._folder.enter(ACQUISITIONS, self._report.inside(ACQUISITIONS))
        if acquisitions is None:
            if self._titles == _NO_TITLES:
                self._read_nameless_chain()
            self._linked = self._chain.head[0] if self._chain.head is not None else 0
            self._finish_chain()
            self._check_published([])
            return
        with acquisitions:
            numbers = _published(acquisitions, self._chain.acquisitions)
            if self._titles == _NO_TITLES and not self._begin_without_chain(acquisitions, numbers):
                return
            self._read_on(numbers)
            self._check_unfinished(acquisitions, numbers)  # 3.
            self._finish_chain()
            self._check_published(numbers)
            self._check_each(acquisitions, numbers)  # 4.

    def _read_on(self, numbers: list[int]) -> None:
        """Reads the records that were added to the chain, up to the last acquisition that was listed after it.

        All acquisitions before that one are in the chain by now, because the next publish waits for that.
        """
        last = max(numbers, default=0)
        if last > self._chain.facts.acquisitions or self._chain.facts.unfinished is not None:
            self._custody.look_again()
            self._chain.read_on(self._custody, last)

    def _finish_chain(self) -> None:
        """The vault states times of an item by its exact numbers: they date the records also where a folder was renamed."""
        place = (self._where.case, self._where.item)
        if self._titles != _NO_TITLES:
            case, item = (Title(title).folder for title in self._titles)
            place = case, item
        self._chain.finish(self._context.stated_times.get(place, {}))

    # The owner of the chain.

    def _new_chain(self) -> ChainReader:
        subject = ChainSubject(self._context.identity.vault_id, *self._titles)
        return ChainReader(self._context, subject, Check.CUSTODY, times_known=self._context.times_known)

    def _use_titles(self) -> None:
        """Checks that the folders are named after the exact numbers, which are known now."""
        self._report = self._report.about(*self._titles)
        self._custody.report = self._custody.report.about(*self._titles)
        self._folder.report = self._report
        for what, title, folder in zip(("case", "item"), self._titles, (self._where.case, self._where.item), strict=True):
            if Title(title).folder != folder:
                text = f"the records are about the {what} {safe_text(title)}, whose folder has another name"
                self._report.report(Check.CUSTODY, "wrong-place", text)
        for what, title, asked in zip(("case", "item"), self._titles, self._where.asked, strict=True):
            if asked not in (None, title):  # the folder is checked all the same: its records may have been changed
                text = f"the vault has no {what} {safe_text(asked)}: the folder is that of the {what} {safe_text(title)}"
                self._report.report(Check.STRUCTURE, "not-there", text)
                self._is_asked_for = False

    def _begin_without_chain(self, acquisitions: CheckedFolder, numbers: list[int]) -> bool:
        """Finds the numbers where the chain is empty or all of it is damaged. False: nothing more to check."""
        for number in numbers:
            folder = acquisitions.peek(acquisition_folder(number))
            if folder is not None:
                with folder:
                    self._titles = _titles_in(folder, ACQUIRED) or _NO_TITLES
            if self._titles != _NO_TITLES:
                break
        known = self._custody.listed and acquisitions.listed
        if self._titles == _NO_TITLES and not numbers and known and self._has_only_leftovers():
            self._titles = self._begun_titles()
            self._chain = self._new_chain()
            self._chain.read_folder(self._custody, self._reaching)
            self._check_stated_head()
            self._report.report(Check.STRUCTURE, "empty-item", "the item holds no acquisition (yet)")
            self._check_named(numbers)
            return False
        if self._titles == _NO_TITLES:
            self._read_nameless_chain()
            self._report.report(Check.CUSTODY, "not-compared", "no record tells which case and item this is")
            return False
        self._chain = self._new_chain()
        self._use_titles()
        acquisitions.report = acquisitions.report.about(*self._titles)
        self._chain.read_folder(self._custody, self._reaching)
        return True

    def _has_only_leftovers(self) -> bool:
        """Whether the custody folder has nothing but what a first push leaves that ended before it published."""
        kinds = {raw.decode("utf-8", "replace"): kind for raw, kind in self._custody.names.items()}
        return left_by_append(kinds, 0, of_item=True) == kinds.keys() and set(kinds.values()) <= {"file"}

    def _begun_titles(self) -> tuple[str, str]:
        """Returns the numbers in a record that was begun, if these folders are named after them."""
        for raw in sorted(self._custody.names):
            data, _ = self._custody.load_quietly(raw.decode("utf-8", "replace"), MAX_RESERVATION)
            begun = None if data is None else NewRecord.decode(data)
            titles = _NO_TITLES if begun is None else (begun.record.case or "", begun.record.item or "")
            if all(titles) and tuple(Title(title).folder for title in titles) == (self._where.case, self._where.item):
                return titles
        return _NO_TITLES

    def _read_nameless_chain(self) -> None:
        """Reads a chain without a known owner. If not all could be read, it may be one that was seen before: none is missing."""
        self._chain.read_folder(self._custody, self._reaching)
        if not self._chain.is_whole:
            self._report.findings.record_unread(self._custody.report.folder)

    # What is published, compared with the chain.

    def _check_unfinished(self, acquisitions: CheckedFolder, numbers: list[int]) -> None:
        """Checks an acquisition whose records are not all in the chain: they must follow it; then it is an unfinished publish."""
        chain = self._chain
        self._linked = chain.head[0] if chain.head is not None else 0
        if chain.broken or self._report.is_unread(CUSTODY):
            return
        half_linked = chain.facts.unfinished
        last = chain.facts.acquisitions
        for number in numbers:
            if number < last or (number == last and half_linked is None):
                continue
            follows = number in (half_linked, last + 1) and self._follow(acquisitions, number, half=number == half_linked)
            if follows is None:
                continue  # it could not be read, or is damaged: reported when it is checked
            if follows:
                self._unfinished = number
                if self._was_linked():
                    continue
                text = "a publish that runs now, or was interrupted before its records were linked; the next push ends it"
                acquisitions.report.report(Check.PUBLISHING, "unfinished-publish", text, acquisition_folder(number))
            else:
                text = f"the custody chain does not record acquisition {number}"
                acquisitions.report.report(Check.CUSTODY, "not-in-chain", text, acquisition_folder(number))

    def _was_linked(self) -> bool:
        """Whether records that are only in an acquisition were in the chain before: then they were removed from it.

        The vault states the head of an item's chain only after its records are linked. So what it has stated is no interrupted
        publish.
        """
        removed = [number for number in self._stated if number > self._linked and number in self._chain.digests]
        for number in sorted(removed):
            text = f"the vault's own chain says that record {number} was in this chain; it is missing there"
            self._report.report(Check.CUSTODY, "missing-record", text, CUSTODY)
        return bool(removed)

    @property
    def _reaching(self) -> int:
        """Returns the number of the last record that this chain is known to have had."""
        return self._context.reaching(self._where.case, self._where.item)

    @property
    def _stated(self) -> dict[int, str]:
        """Returns all heads of this chain that the vault's own chain states."""
        return self._context.stated_heads.get((self._where.case, self._where.item), {})

    def _follow(self, acquisitions: CheckedFolder, number: int, *, half: bool) -> bool | None:
        """Whether the records in an acquisition follow the chain's head; None where they could not be read, or are damaged."""
        chain = self._chain
        name = acquisition_folder(number)
        folder = acquisitions.peek(name)
        if folder is None:
            return None if acquisitions.names.get(name.encode()) == "folder" else False
        names = [(RECEIVED, RECEIVED_SIGNATURE)] if half else [(ACQUIRED, ACQUIRED_SIGNATURE), (RECEIVED, RECEIVED_SIGNATURE)]
        with folder:
            read = [(name, folder.load(name, MAX_RECORD), folder.load(other, MAX_SIGNATURE)) for name, other in names]
            if any(folder.report.is_unread(one) for pair in names for one in pair):
                return None
        report = acquisitions.report.inside(acquisition_folder(number), acquisition=number)
        sequence = chain.head[0] if chain.head is not None else 0
        for name, data, signature in read:
            sequence += 1
            if data is None or signature is None:
                return False
            chain.add(report, name, sequence, data, signature)
            if chain.broken:
                break
        if chain.broken and sequence in chain.damaged:  # that is a finding already: nobody knows what it would record
            return None
        return not chain.broken

    def _check_published(self, numbers: list[int]) -> None:
        """Checks that what the chain records is there, and that the chain reaches the stated heads."""
        gone = [] if self._report.is_unread(ACQUISITIONS) else sorted(self._chain.acquisitions.keys() - set(numbers))
        for number in gone:
            text = f"the custody chain records acquisition {number}, which is not there"
            where = self._report.inside(ACQUISITIONS, acquisition=number)
            where.report(Check.STRUCTURE, "missing-acquisition", text, acquisition_folder(number))
        self._check_stated_head()
        digests = {number: digest for number, digest in self._chain.digests.items() if number <= self._linked}
        self._context.digests[self._titles] = digests  # records that are only in an acquisition are not in the chain yet
        self._context.record_unread(self._titles, self._chain.unread, self._chain.damaged)
        if digests and self._is_asked_for:
            self._context.heads.append(Head(self._titles[0], self._titles[1], self._linked, digests[self._linked]))
        if self._context.wanted_head in digests.values():
            self._context.head_found = True
        self._check_named(numbers)

    def _check_stated_head(self) -> None:
        """Checks that every head that the vault's own chain states is in the chain; reports the last that is not.

        A damaged record in its place, which is a finding of its own, is no other history.
        """
        lost = [number for number, sha256 in self._stated.items() if number and self._is_lost(number, sha256)]
        if not lost:
            return
        others = [number for number in lost if number in self._chain.digests]
        whole = [number for number in others if number not in self._chain.damaged]
        number, head = max(whole or others or lost), self._chain.head
        ends = f"it ends with record {head[0]}, {head[1]}" if head is not None else "it is empty"
        if others:
            ends = f"{'it has another one' if whole else 'a damaged record is'} there, {self._chain.digests[number]}"
        text = f"the vault's own chain says that record {number} of this chain is {self._stated[number]}; {ends}"
        slug = "forked" if whole else "chain-broken" if others else "rolled-back"
        self._report.report(Check.CUSTODY, slug, text, CUSTODY)

    def _is_lost(self, number: int, sha256: str) -> bool:
        """Whether a record is missing or another one. A record that cannot be read may be the right one."""
        found = self._chain.digests.get(number)
        if found is None:
            return self._chain.listed and number not in self._chain.unread
        return found != sha256

    def _check_named(self, numbers: list[int]) -> None:
        wanted = self._where.acquisition
        known = not self._report.is_unread(ACQUISITIONS)
        if wanted is not None and known and wanted not in numbers and wanted not in self._chain.acquisitions:
            there = numbers_text(numbers, "acquisition").strip(" .").replace("It has", ": it has", 1)
            self._report.report(Check.STRUCTURE, "not-there", f"the item has no acquisition {wanted}{there}")

    # Acquisitions.

    def _check_each(self, acquisitions: CheckedFolder, numbers: list[int]) -> None:
        wanted = [number for number in numbers if self._where.acquisition in (None, number)]
        for number in wanted:
            name = acquisition_folder(number)
            report = acquisitions.report.inside(name, acquisition=number)
            folder = acquisitions.enter(name, report)
            if folder is None:
                continue
            self._context.progress.place = f"{safe_text(self._titles[0])} / {safe_text(self._titles[1])} / {number}"
            known = self._chain.acquisitions
            expected = Expected(
                *self._titles,
                number,
                known.get(number),
                known.get(number - 1),
                tuple(self._chain.timestamped.get(number, ())),
                linked=number != self._unfinished,
                later=partial(self._read_later, number),
                received=self._received_at,
                times_known=self._chain.times_known,
            )
            with folder:
                check_acquisition(self._context, folder, expected, partial(self._open_recipes, acquisitions, number))

    def _received_at(self, number: int) -> int | None:
        known = self._chain.acquisitions.get(number)
        return None if known is None else known.received_at

    def _read_later(self, number: int) -> Later:
        """Returns the current records of an acquisition's timestamps. A writer to the item holds its lock."""
        is_written = self._folder.is_locked()
        if self._custody.look_again():
            self._chain.read_on(self._custody)
            self._finish_chain()
        return Later(tuple(self._chain.timestamped.get(number, ())), is_written)

    def _open_recipes(self, acquisitions: CheckedFolder, last: int) -> dict[int, BinaryIO]:
        """Opens the chunks.bin files of the acquisitions up to one, the latest first, whose digest a signed receipt names.

        A content's recipe is in the acquisition where the content was first stored.
        """
        opened: dict[int, BinaryIO] = {}
        for number in range(last, max(last - _MAX_RECIPE_FILES, 0), -1):
            folder = acquisitions.peek(acquisition_folder(number))
            if folder is None:
                continue
            with folder:
                _, receipt, key = check_receipt_form(self._context, folder, self._context.keys.keys.all)
                if receipt is not None and key is not None and hash_recipes(folder, receipt) == receipt.chunks_sha256:
                    file = folder.open(CHUNKS, buffered=True)
                    if file is not None:
                        opened[number] = file
        return opened


def _published(acquisitions: CheckedFolder, recorded: Iterable[int]) -> list[int]:
    """Lists the numbers of published acquisitions. They have no gaps: where one seems to be missing, it is looked up.

    So is one that the chain has `recorded`: a network file system may list a folder as it was some time ago.
    """
    there = [number for raw in acquisitions.names if (number := acquisition_number(raw.decode("utf-8", "replace"))) is not None]
    for number in sorted({*range(1, max(there, default=0)), *recorded}.difference(there)):
        acquisitions.look_for(acquisition_folder(number))
    numbers = []
    for raw in sorted(acquisitions.names):
        number = acquisition_number(raw.decode("utf-8", "replace"))
        kind = acquisitions.names[raw]
        if number is None:
            acquisitions.report.report(Check.STRUCTURE, "extra-entry", f"a {kind} that is no acquisition", raw)
        else:
            numbers.append(number)
    return numbers


def _titles_of_chain(custody: CheckedFolder) -> tuple[str, str]:
    """Returns the exact case and item number, from the first record that can be read."""
    before, custody.report = custody.report, Reporter(Findings())  # problems are reported when it is checked
    try:
        for name in sorted(raw.decode("utf-8", "replace") for raw in custody.names):
            if parse_record_file(name) is not None and (titles := _titles_in(custody, name)) is not None:
                return titles
    finally:
        custody.report = before
    return _NO_TITLES


def _titles_in(folder: CheckedFolder, name: str) -> tuple[str, str] | None:
    data = folder.load(name, MAX_RECORD)
    if data is None:
        return None
    try:
        record = decode_record(data)
    except MalformedDocumentError:
        return None  # the next record may have them; this one is reported when it is checked
    return (record.case, record.item) if record.case is not None and record.item is not None else None
