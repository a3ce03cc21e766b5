"""Decides what a report may state: a verdict, and whether that is about what the report shows. A pass is never assumed."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from evidencesync.errors import PathEscapeError, UsageError
from evidencesync.evidence.display import is_clean
from evidencesync.evidence.path import from_json_fields
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.exit_codes import SEVERITY_ORDER, ExitCode
from evidencesync.limits import MAX_VERDICT_FILE
from evidencesync.report.document import Acquisition, Item, Judgement, State, VaultFacts
from evidencesync.verify.findings import Head, Verdict

_CLOCKS_MAY_DIFFER_NS = 300 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class ReportScope:
    """What a report is about."""

    case: str
    item: str | None
    acquisition: int | None


def parse_verdict(data: bytes) -> Verdict:
    """Parses the output of `verify --json`. Raises UsageError for anything else."""
    hint = "Make one: evidencesync verify VAULT --json > verdict.json"
    if len(data) > MAX_VERDICT_FILE:
        raise UsageError("the verdict's file is larger than any that `verify --json` prints", hint=hint)
    try:
        verdict = msgspec.json.decode(data, type=Verdict)
        parse_utc_time(verdict.checked_at)
        for finding in verdict.findings:
            if finding.path is not None or finding.path_b64 is not None:
                from_json_fields(finding.path, finding.path_b64)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError, PathEscapeError) as error:
        raise UsageError("the verdict's file is not what `verify --json` prints", hint=hint) from error
    texts = [verdict.asked.case, verdict.asked.item, *verdict.digests, *(finding.slug for finding in verdict.findings)]
    if not all(text is None or is_clean(text) for text in texts):
        raise UsageError("the verdict's file is not what `verify --json` prints", hint=hint)
    return verdict


def judge(verdict: Verdict, *, given: bool, shown: ReportScope, vault: VaultFacts, items: list[Item], now_ns: int) -> Judgement:
    """The verdict as a report may state it.

    A verdict that was made for this report holds if the report was read from the verified state, whatever was added to the
    chains since. A verdict from a file (`given`) holds only if all of this is true, too: 1. It is about this vault. 2. It
    covers all that the report shows. 3. It is not from the future. 4. The heads of all chains that it saw are the present ones,
    so nothing was acquired or recorded since, and the trusted signers are the same. 5. The report shows what these chains
    record. What happened to the bytes since is not known: the report says so.
    """
    age = now_ns - parse_utc_time(verdict.checked_at)
    reason = _refusal_reason(verdict, given, shown, vault, items, age)
    state: State = _never_better(verdict.verdict, verdict) if reason is None else "not-verified"
    return Judgement(
        state=state,
        source="verdict-file" if given else "checked",
        reason=reason,
        exit_code=_exit_code(state, verdict),
        checked_at=verdict.checked_at,
        age_seconds=max(age, 0) // 1_000_000_000,
        trust=verdict.trust,
        digests=verdict.digests,
        checked=verdict.checked,
        heads=verdict.heads,
        findings=verdict.findings,
    )


def _exit_code(state: State, verdict: Verdict) -> int:
    """The verdict's exit code if it holds; the code of an open verdict if it does not, or if it contradicts itself."""
    if state == "pass":
        return int(ExitCode.COMPLETE)
    known = verdict.exit_code in {int(code) for code in SEVERITY_ORDER} - {int(ExitCode.COMPLETE)}
    return verdict.exit_code if known and state != "not-verified" else int(ExitCode.GAPS)


def _never_better(state: State, verdict: Verdict) -> State:
    """A pass must agree with its own exit code, and have no finding of severity error."""
    if state == "pass" and (verdict.exit_code != 0 or any(finding.severity == "error" for finding in verdict.findings)):
        return "fail"
    return state


def _refusal_reason(
    verdict: Verdict, given: bool, shown: ReportScope, vault: VaultFacts, items: list[Item], age_ns: int
) -> str | None:
    """Why a verdict is not about what the report shows; None if it is."""
    if given:
        if verdict.vault_id != vault.vault_id:  # 1
            return "the verdict is about another vault"
        if not _covers(verdict, shown):  # 2
            return "the verdict is about another part of the vault"
        if age_ns < -_CLOCKS_MAY_DIFFER_NS:  # 3
            return "the verdict is from the future: one of the two clocks is wrong"
    if verdict.verdict != "pass":  # what is said of a failure needs no proof that it was of today
        return None
    if _head_of(verdict, None, None) != vault.head:  # 4
        return "the vault's own chain has gone on since, or is another one"
    return next((reason for item in items if (reason := _item_refusal_reason(verdict, item)) is not None), None)


def _item_refusal_reason(verdict: Verdict, item: Item) -> str | None:
    if item.head is None or _head_of(verdict, item.case, item.item) != item.head:  # 4
        return "the custody chain of an item has gone on since, or is another one"
    if not _is_whole(item):  # 5
        return "a custody record was read that is not the one that was verified"
    if not all(_is_recorded(item, one) for one in item.acquisitions):
        return "a manifest was read that is not the one in the custody chain: something is being changed"
    return None


def _is_whole(item: Item) -> bool:
    """Whether the records lead to the head that was verified: each fits its signature and is named by the one after it."""
    digest: str | None = None
    for step in item.custody:
        if step.record is None or step.signature == "refused" or step.record.previous_sha256 != digest:
            return False
        digest = step.sha256
    return item.head is not None and digest == item.head.sha256


def _is_recorded(item: Item, acquisition: Acquisition) -> bool:
    """Whether the manifest whose contents the report shows is the one that the chain records, and was read whole."""
    digest = acquisition.contents.manifest_sha256
    return digest is not None and any(
        step.record is not None
        and (step.record.type, step.record.acquisition, step.record.manifest_sha256) == ("received", acquisition.number, digest)
        for step in item.custody
    )


def _covers(verdict: Verdict, shown: ReportScope) -> bool:
    asked = verdict.asked
    return (
        asked.case in (None, shown.case) and asked.item in (None, shown.item) and asked.acquisition in (None, shown.acquisition)
    )


def _head_of(verdict: Verdict, case: str | None, item: str | None) -> Head | None:
    return next((head for head in verdict.heads if (head.case, head.item) == (case, item)), None)
