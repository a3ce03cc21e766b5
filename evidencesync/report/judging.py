"""Decides what a report may state: a verdict, and whether that is about what the report shows. A pass is never assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.receipt import encode_receipt
from evidencesync.errors import PathEscapeError, UsageError
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.evidence.identity import Title
from evidencesync.evidence.path import from_json_fields
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.exit_codes import SEVERITY_ORDER, ExitCode
from evidencesync.limits import MAX_VERDICT_FILE
from evidencesync.report.document import Acquisition, Item, Judgement, State, Trust, VaultFacts
from evidencesync.verify.findings import ByVault, FarVerdict, Head, Verdict


class _GivenVerdict(Verdict, frozen=True):
    """A verdict in a file: of a vault on this machine, or of one on another."""

    by_vault: ByVault | None = None


_VERDICT: Final = msgspec.json.Decoder(_GivenVerdict)

_CLOCKS_MAY_DIFFER_NS = 300 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class ReportScope:
    """What a report is about."""

    case: str
    item: str | None
    acquisition: int | None


@dataclass(frozen=True, slots=True)
class Present:
    """What the report shows of the vault, as it is now."""

    vault: VaultFacts
    items: list[Item]
    removed: list[tuple[str, int]]
    """Acquisitions that are gone from these items, though their chains record them: also where another one is shown."""
    trust: Trust


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a verdict is not about what the report shows. `code`: what every command ends with where that is gone; else 3."""

    reason: str
    code: ExitCode = ExitCode.GAPS


def parse_verdict(data: bytes) -> Verdict:
    """Parses the output of `verify --json`. Raises UsageError for anything else."""
    hint = "Make one: evidencesync verify VAULT --json > verdict.json"
    if len(data) > MAX_VERDICT_FILE:
        raise UsageError("the verdict's file is larger than any that `verify --json` prints", hint=hint)
    try:
        verdict = _VERDICT.decode(data)
        parse_utc_time(verdict.checked_at)
        for finding in verdict.findings:
            if finding.path is not None or finding.path_b64 is not None:
                from_json_fields(finding.path, finding.path_b64)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError, PathEscapeError) as error:
        raise UsageError("the verdict's file is not what `verify --json` prints", hint=hint) from error
    by = verdict.by_vault
    texts = [verdict.asked.case, verdict.asked.item, *verdict.digests, *(finding.slug for finding in verdict.findings)]
    texts += [] if by is None else [by.address, by.tool]
    if not all(text is None or is_clean(text) for text in texts):
        raise UsageError("the verdict's file is not what `verify --json` prints", hint=hint)
    return verdict


def judge(verdict: Verdict, *, given: bool, shown: ReportScope, present: Present, now_ns: int) -> Judgement:
    """The verdict as a report may state it.

    A verdict that was made for this report holds if the report was read from the verified state, whatever was added to the
    chains since. A verdict from a file (`given`) holds only if all of this is true, too: 1. It is about this vault. 2. It
    covers all that the report shows. 3. It is not from the future. 4. The heads of all chains that it saw are the present ones,
    so nothing was acquired or recorded since, and nobody has changed a list of signers without a record. 5. The report shows
    all items that were verified, each in its own folder. 6. It shows all acquisitions that their chains record, and reads what
    these record. What happened to the bytes since is not known: the report says so.
    """
    age = now_ns - parse_utc_time(verdict.checked_at)
    refusal = _refusal(verdict, given, shown, present, age)
    state: State = _never_better(verdict.verdict, verdict) if refusal is None else "not-verified"
    return Judgement(
        state=state,
        source="verdict-file" if given else "checked",
        reason=None if refusal is None else refusal.reason,
        exit_code=_exit_code(state, verdict) if refusal is None else int(refusal.code),
        checked_at=verdict.checked_at,
        age_seconds=max(age, 0) // 1_000_000_000,
        trust=verdict.trust,
        digests=verdict.digests,
        checked=verdict.checked,
        heads=verdict.heads,
        findings=verdict.findings,
        by_vault=verdict.by_vault if isinstance(verdict, FarVerdict | _GivenVerdict) else None,
    )


def _exit_code(state: State, verdict: Verdict) -> int:
    """The exit code of a verdict that holds; the code of an open verdict if it contradicts itself."""
    if state == "pass":
        return int(ExitCode.COMPLETE)
    known = verdict.exit_code in {int(code) for code in SEVERITY_ORDER} - {int(ExitCode.COMPLETE)}
    return verdict.exit_code if known else int(ExitCode.GAPS)


def _never_better(state: State, verdict: Verdict) -> State:
    """A pass must agree with its own exit code, and have no finding of severity error."""
    if state == "pass" and (verdict.exit_code != 0 or any(finding.severity == "error" for finding in verdict.findings)):
        return "fail"
    return state


def _refusal(verdict: Verdict, given: bool, shown: ReportScope, present: Present, age_ns: int) -> _Refusal | None:
    """Why a verdict is not about what the report shows; None if it is."""
    if given:
        if verdict.vault_id != present.vault.vault_id:  # 1
            return _Refusal("the verdict is about another vault")
        if not _covers(verdict, shown):  # 2
            return _Refusal("the verdict is about another part of the vault")
        if age_ns < -_CLOCKS_MAY_DIFFER_NS:  # 3
            return _Refusal("the verdict is from the future: one of the two clocks is wrong")
    if verdict.verdict != "pass":  # what is said of a failure needs no proof that it was of today
        return None
    return _pass_refusal(verdict, shown, present)


def _pass_refusal(verdict: Verdict, shown: ReportScope, present: Present) -> _Refusal | None:
    """Why a pass does not hold for what is there now; None if it does."""
    if _head_of(verdict, None, None) != present.vault.head:  # 4
        return _Refusal("the vault's own chain has gone on since, or is another one")
    if verdict.trust == "vault" and present.trust.problem is not None:
        return _Refusal(f"who is trusted cannot be told any more: {safe_text(present.trust.problem, 300)}")
    gone = _item_gone(verdict, shown, present.items)  # 5
    if gone is not None:
        return gone
    found = next((refusal for item in present.items if (refusal := _item_refusal(verdict, item)) is not None), None)
    if found is None and present.removed:  # 6
        title, number = present.removed[0]
        text = f"acquisition {number} of item {safe_text(title)}, which its custody chain records, is not there"
        return _Refusal(text, ExitCode.MISSING_OR_EXTRA)
    return found


def _item_gone(verdict: Verdict, shown: ReportScope, items: list[Item]) -> _Refusal | None:
    """An item that was verified, and that the report ought to show, and cannot."""
    if any(item.head is None for item in items):  # which one that is is not known: see `_item_refusal`
        return None
    present = {item.item for item in items}
    for head in verdict.heads:
        if head.case == shown.case and head.item is not None and shown.item in (None, head.item) and head.item not in present:
            return _Refusal(f"item {safe_text(head.item)}, which was verified, is gone", ExitCode.CHAIN)
    return None


def _item_refusal(verdict: Verdict, item: Item) -> _Refusal | None:
    if item.head is None or _head_of(verdict, item.case, item.item) != item.head:  # 4
        return _Refusal("the custody chain of an item has gone on since, or is another one")
    if item.folder != f"cases/{Title(item.case).folder}/{Title(item.item).folder}":  # 5
        return _Refusal(f"item {safe_text(item.item)} lies in a folder of another name")
    if not _is_whole(item):  # 6
        return _Refusal("a custody record was read that is not the one that was verified")
    if item.problem is not None:
        return _Refusal(f"item {safe_text(item.item)} could not be read: {safe_text(item.problem, 300)}")
    received = {step.record.acquisition: step.record for step in item.custody if step.record and step.record.type == "received"}
    if not all(_is_recorded(received.get(one.number), one) for one in item.acquisitions):
        return _Refusal("a manifest or a receipt was read that is not the one in the custody chain: something is being changed")
    stamped = {step.record.acquisition for step in item.custody if step.record and step.record.type == "timestamped"}
    lost = [one.number for one in item.acquisitions if one.number in stamped and not one.timestamped]
    if lost:
        text = f"the timestamp of acquisition {lost[0]} of item {safe_text(item.item)}, which its chain records, cannot be read"
        return _Refusal(f"{text}, or is not there")
    return None


def _is_whole(item: Item) -> bool:
    """Whether the records lead to the head that was verified: each fits its signature and is named by the one after it."""
    digest: str | None = None
    for step in item.custody:
        if step.record is None or step.signature == "refused" or step.record.previous_sha256 != digest:
            return False
        digest = step.sha256
    return item.head is not None and digest == item.head.sha256


def _is_recorded(received: CustodyRecord | None, acquisition: Acquisition) -> bool:
    """Whether manifest and receipt that the report shows are those that the chain records, and were read whole."""
    digest, receipt = acquisition.contents.manifest_sha256, acquisition.receipt
    if received is None or digest is None or receipt is None:
        return False
    return (received.manifest_sha256, received.receipt_sha256) == (digest, sha256_of(encode_receipt(receipt)).hex())


def _covers(verdict: Verdict, shown: ReportScope) -> bool:
    asked = verdict.asked
    return (
        asked.case in (None, shown.case) and asked.item in (None, shown.item) and asked.acquisition in (None, shown.acquisition)
    )


def _head_of(verdict: Verdict, case: str | None, item: str | None) -> Head | None:
    return next((head for head in verdict.heads if (head.case, head.item) == (case, item)), None)
