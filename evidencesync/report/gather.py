"""Reads the model of a report from a vault. Writes nothing. What cannot be read is stated, and hides nothing else."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha512
from typing import TYPE_CHECKING, TypeVar

import evidencesync
from evidencesync.custody.details import DetailsFold
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.statements import Statements
from evidencesync.errors import EvidenceSyncError, SignatureError, StorageError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import Title
from evidencesync.evidence.number_format import notebook_fingerprint
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.report.copies import damaged_paths, whole_copies
from evidencesync.report.document import (
    REPORT_FORMAT,
    Acquisition,
    CustodyStep,
    Detail,
    HandOver,
    Item,
    Report,
    SignatureState,
    VaultFacts,
    WholeCopy,
)
from evidencesync.report.judging import Present, ReportScope, judge
from evidencesync.report.manifests import count_differences, survey
from evidencesync.report.maps import file_maps
from evidencesync.report.signers import trust_of
from evidencesync.vault.absent import choose_acquisition, nothing_of
from evidencesync.vault.catalog import (
    acquisition_numbers,
    item_folders,
    load_footer,
    load_header,
    load_receipt,
    require_no_link,
    shown_name,
    stored_name,
)
from evidencesync.vault.layout import TIMESTAMP, ItemLayout
from evidencesync.vault.ledger import Ledger, RecordFile, StoredRecord
from evidencesync.verify.findings import Finding, Head, Verdict

if TYPE_CHECKING:
    from evidencesync.vault.vault import Vault

_NOT_LISTED = "not-listed"
_Document = TypeVar("_Document")


@dataclass(frozen=True, slots=True)
class Gathered:
    """A report, and the folders of its items: file tables are read from there, and never held in memory."""

    report: Report
    layouts: list[ItemLayout]


@dataclass(frozen=True, slots=True)
class VerdictSource:
    """The basis of a report: a verdict, whether it was given as a file, and an allowed_signers file from outside, if any."""

    verdict: Verdict
    given: bool
    trusted: bytes | None


def gather(vault: Vault, shown: ReportScope, source: VerdictSource, *, now_ns: int) -> Gathered:
    """The whole model except its file lists. Raises NotThereError if the vault has nothing of what was named."""
    layouts = _layouts(vault, shown)
    found = [_item(layout, shown, source) for layout in layouts]
    items = [item for item, _ in found]
    head = _checked_head(vault.ledger, source, None, None, ("heads",)) or _head(vault.ledger, None, None)
    facts = VaultFacts(vault.settings.id, vault.settings.name, vault.shown_key, head)
    trust = trust_of(vault, source.verdict.trust, source.trusted)
    removed = [(item.item, number) for item, numbers in found for number in numbers]
    present = Present(facts, items, removed, trust)
    report = Report(
        format=REPORT_FORMAT,
        made_at=format_utc_time(now_ns),
        tool="evidencesync",
        version=evidencesync.__version__,
        case=shown.case,
        item=shown.item,
        acquisition=shown.acquisition,
        judgement=judge(source.verdict, given=source.given, shown=shown, present=present, now_ns=now_ns),
        vault=facts,
        items=items,
        trust=trust,
        files=[],
    )
    return Gathered(report, layouts)


def count_acquisitions(vault: Vault, shown: ReportScope) -> int:
    """How many acquisitions a report would show, by the vault's folders; 0 if they cannot be listed, which is said later."""
    try:
        listed = [acquisition_numbers(layout) for layout in _layouts(vault, shown)]
    except EvidenceSyncError:
        return 0
    return sum(shown.acquisition in (None, number) for numbers in listed for number in numbers)


def _layouts(vault: Vault, shown: ReportScope) -> list[ItemLayout]:
    """The items that are asked for. One whose chain cannot be read is still shown, by its folder. A link is not followed (31)."""
    case = Title(shown.case).folder
    wanted = None if shown.item is None else Title(shown.item).folder
    require_no_link(vault.layout, case, *([wanted] if wanted is not None else ()))

    def listed() -> list[ItemLayout]:
        names = [name for name in item_folders(vault.layout, case) if wanted in (None, name)]
        return [layout for name in names if _is_about(layout := ItemLayout(vault.layout.case(case) / name), shown)]

    found = listed()
    if not found:
        error = nothing_of(vault.layout, Title(shown.case), None if shown.item is None else Title(shown.item))
        found = listed()  # once more: a first push may have ended meanwhile
        if not found:
            raise error
    if shown.acquisition is not None:
        choose_acquisition(found[0], f"{safe_text(shown.case)} / {safe_text(shown.item or '')}", shown.acquisition)
    return found


def _is_about(layout: ItemLayout, shown: ReportScope) -> bool:
    """Whether an item's folder belongs to this case, and not to another with the same folder name. False for an empty one."""
    try:
        name = stored_name(layout)
    except EvidenceSyncError:
        return True
    return name is not None and name.case.text == shown.case and shown.item in (None, name.item.text)


def _item(layout: ItemLayout, shown: ReportScope, source: VerdictSource) -> tuple[Item, list[int]]:
    """An item, and which acquisitions its chain records that are not there: none where they could not be listed."""
    problem: str | None = None
    case, title = shown.case, shown.item or layout.root.name
    there: list[int] | None = None
    try:
        name = stored_name(layout)
        if name is not None:
            title = name.item.text
    except EvidenceSyncError as error:
        problem = error.message
        name = shown_name(layout)
        title = title if name is None or name.case.text != case else name.item.text
    custody, ledger = _custody(layout, source.verdict), Ledger(layout.custody)
    checked = _checked_head(ledger, source, case, title)
    if checked is not None:  # others have gone on since; the report is of what was checked
        custody = custody[: checked.sequence]
    received = [step.record.acquisition for step in custody if step.record is not None and step.record.type == "received"]
    try:
        there = acquisition_numbers(layout, max((number for number in received if number is not None), default=0))
    except EvidenceSyncError as error:
        problem = error.message
    numbers = [number for number in there or () if shown.acquisition in (None, number)]
    removed = [number for number in received if number is not None and number not in there] if there is not None else []
    if _has_passed(source):  # what the vault had not received by then is a transfer under way, and no acquisition yet
        numbers = [number for number in numbers if number in received]
    records = [step.record for step in custody if step.record is not None and step.signature != "refused"]
    details, statements = DetailsFold(), Statements()
    for record in records:
        details.add(record)
        statements.add(record)
    handed = statements.pending
    folder = f"cases/{layout.root.parent.name}/{layout.root.name}"
    checked_numbers = _checked_numbers(custody, there or [], case, title, source)
    copies = whole_copies(layout, folder, checked_numbers, source.verdict)
    shown_item = Item(
        case=case,
        item=title,
        folder=folder,
        head=checked or _head(ledger, case, title),
        known=[Detail(one.name, one.value, one.record) for one in details.known()],
        held_by=statements.held_by,
        open_hand_over=HandOver(handed.record, handed.principal, handed.to) if handed is not None else None,
        custody=custody,
        acquisitions=[_acquisition(layout, folder, number, source.verdict, copies.get(number, [])) for number in numbers],
        differences=[count_differences(layout, number - 1, number) for number in numbers if number > 1],
        problem=problem,
    )
    return shown_item, removed


def _head(ledger: Ledger, case: str | None, item: str | None) -> Head | None:
    """The last record that is there: whether there are gaps before it, the records themselves say."""
    try:
        last = ledger.there()[-1:]
        return Head(case, item, last[0].sequence, ledger.load(last[0]).sha256) if last else None
    except EvidenceSyncError:
        return None


def _checked_numbers(custody: list[CustodyStep], there: list[int], case: str, item: str, source: VerdictSource) -> list[int]:
    """The acquisitions of an item whose content was checked for this very report: not what was received since."""
    asked, heads = source.verdict.asked, source.verdict.heads
    if source.given or asked.acquisition is not None:
        return []
    end = next((one.sequence for one in heads if (one.case, one.item) == (case, item)), 0)
    records = [step.record for step in custody if step.record is not None and step.sequence <= end]
    received = {record.acquisition for record in records if record.type == "received"}
    return [number for number in there if number in received]


def _has_passed(source: VerdictSource) -> bool:
    """Whether the vault was verified for this report, and passed."""
    return not source.given and source.verdict.verdict == "pass"


def _checked_head(
    ledger: Ledger, source: VerdictSource, case: str | None, item: str | None, kinds: tuple[str, ...] = ()
) -> Head | None:
    """Where a chain ended when it was checked for this very report, and passed: if it still has that record, and went on since.

    With `kinds`, only by records of these types: those that state where items' chains end change nothing of what is shown. None
    where the chain is as it was, or another one, or where the verdict is an earlier one.
    """
    heads = [one for one in source.verdict.heads if (one.case, one.item) == (case, item)]
    if not _has_passed(source) or not heads:
        return None
    head = heads[0]
    try:
        files = ledger.files()
        there = len(files) > head.sequence and ledger.load(files[head.sequence - 1]).sha256 == head.sha256
    except EvidenceSyncError:
        return None
    return head if there and all(not kinds or file.kind in kinds for file in files[head.sequence :]) else None


# --- Acquisitions ------------------------------------------------------------------------------------------------------


def _acquisition(layout: ItemLayout, folder: str, number: int, verdict: Verdict, copies: list[WholeCopy]) -> Acquisition:
    problems: list[str] = []
    header = _read(load_header, layout, number, problems)
    footer = _read(load_footer, layout, number, problems)
    receipt = _read(load_receipt, layout, number, problems)
    contents = survey(layout, number)
    return Acquisition(
        number=number,
        fingerprint=notebook_fingerprint(contents.manifest_sha256) if contents.manifest_sha256 is not None else None,
        header=header,
        footer=footer,
        receipt=receipt,
        contents=contents,
        maps=file_maps(layout, number, damaged_paths(folder, number, verdict)),
        whole_copies=copies,
        timestamped=_has_timestamp(layout, number),
        problem=problems[0] if problems else None,
    )


def _read(load: Callable[[ItemLayout, int], _Document], layout: ItemLayout, number: int, problems: list[str]) -> _Document | None:
    """One document of an acquisition; None after a problem, which hides no other document."""
    try:
        return load(layout, number)
    except EvidenceSyncError as error:
        problems.append(error.message)
        return None


def _has_timestamp(item: ItemLayout, number: int) -> bool:
    """Whether a timestamp exists. If it cannot be read, the verdict says so."""
    try:
        return stat.S_ISREG((item.acquisition(number) / TIMESTAMP).lstat().st_mode)
    except OSError:
        return False


# --- Custody -----------------------------------------------------------------------------------------------------------


def _custody(layout: ItemLayout, verdict: Verdict) -> list[CustodyStep]:
    ledger = Ledger(layout.custody)
    try:
        files = ledger.there()
    except EvidenceSyncError:
        return []
    return list(_steps(layout, ledger, files, verdict))


def _steps(layout: ItemLayout, ledger: Ledger, files: list[RecordFile], verdict: Verdict) -> Iterator[CustodyStep]:
    """The records that are there, and in the place of those that are not, one step for each gap."""
    before = 0
    for file in files:
        if file.sequence > before + 1:
            gone = (
                f"record {before + 1} is" if file.sequence == before + 2 else f"records {before + 1} to {file.sequence - 1} are"
            )
            yield CustodyStep(before + 1, None, None, "not-checked", f"custody {gone} not there")
        before = file.sequence
        yield _step(layout, ledger, file, verdict)


def _step(layout: ItemLayout, ledger: Ledger, file: RecordFile, verdict: Verdict) -> CustodyStep:
    """A record. Its signature is good if it is valid, by the key that the record names, and `verify` found nothing wrong."""
    try:
        stored = ledger.load(file)
    except EvidenceSyncError as error:
        unread = isinstance(error, StorageError)  # it may be whole: nothing is said against it
        return CustodyStep(file.sequence, None, None, "not-checked" if unread else "refused", error.message)
    record = stored.record
    state, detail = _signature(layout, file, stored, verdict)
    return CustodyStep(file.sequence, record, stored.sha256, state, detail)


def _signature(layout: ItemLayout, file: RecordFile, stored: StoredRecord, verdict: Verdict) -> tuple[SignatureState, str]:
    try:
        key = verify_signature(stored.signature, CUSTODY_NAMESPACE, sha512(stored.data).digest())
    except SignatureError as error:
        return "refused", error.message
    if key.fingerprint != stored.record.actor.key:
        return "refused", f"signed by {key.fingerprint}, which is not the key that the record names"
    against = _findings_about(layout, file, stored.record, verdict.findings)
    if against:
        return "refused", against[0].message
    if any(finding.slug == _NOT_LISTED for finding in verdict.findings) or not _was_checked(stored.record, verdict):
        return "not-checked", "the signature fits; whether its signer was trusted was not checked"
    return "good", f"fits, by {key.fingerprint}, who was trusted"


def _was_checked(record: CustodyRecord, verdict: Verdict) -> bool:
    """Whether a verdict covers this record: the chain that was verified has at least as many records."""
    heads = [head for head in verdict.heads if (head.case, head.item) == (record.case, record.item)]
    return any(head.sequence >= record.sequence for head in heads)


def _findings_about(layout: ItemLayout, file: RecordFile, record: CustodyRecord, findings: list[Finding]) -> list[Finding]:
    """Errors about a record's own files, in the chain or beside its acquisition."""
    root = f"cases/{layout.root.parent.name}/{layout.root.name}"
    names = {f"{root}/custody/{file.name}"}
    if record.acquisition is not None and record.type in ("acquired", "received"):
        names.add(f"{root}/acquisitions/{record.acquisition:04}/{record.type}.json")
    names |= {name + ".sig" for name in names}
    return [finding for finding in findings if finding.severity == "error" and finding.path in names]
