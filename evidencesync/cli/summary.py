"""What a push, a pull and a dry run print at their end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from evidencesync.cli.number_format import rate_text, stored_text
from evidencesync.cli.outputs import ChangesOutput, FlaggedPath, PushOutput, PushVerdict, UnchangedOutput
from evidencesync.custody.labels import LOOKUPS, earlier_text
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.entry import Remark
from evidencesync.evidence.number_format import count_text, duration_text, notebook_fingerprint, share_text, size_text
from evidencesync.evidence.path import to_json_fields

if TYPE_CHECKING:
    from evidencesync.acquire.reading import SourceTally
    from evidencesync.acquire.request import PushOutcome, PushRequest
    from evidencesync.acquire.unchanged import UnchangedSource
    from evidencesync.cli.console import Console
    from evidencesync.custody.wholeness import ManifestTally
    from evidencesync.evidence.entry import Flag, Remark
    from evidencesync.evidence.identity import ItemName
    from evidencesync.localstate.receipts import FinishedReceipt
    from evidencesync.protocol.messages import Alike, Changes
    from evidencesync.source.filters import FilterRules
    from evidencesync.ssh.address import Address

_LISTED_FLAGS: Final = 20
_LEAST_OF_EACH: Final = 5
_WORST_FIRST: Final[tuple[Flag, ...]] = ("unreadable", "vanished", "changed-while-read")
_CLOCK_SECONDS: Final = 5.0  # a machine that asks a time server is within one
_FLAG_WORDS: Final = {
    "unreadable": "could not be read, or not all of it",
    "vanished": "vanished before it was read",
    "changed-while-read": "changed while it was read",
    "skipped": "left out by a filter",
}
_OWN_TOO: Final = "left out by a filter or as own state"
_REMARK_WORDS: Final[dict[Remark, str]] = {
    "access-time-changed": "access times that reading has changed: {count} (symbolic links', or where O_NOATIME is not allowed)",
    "metadata-unread": "attributes, inode flags or times that the system would not give, or could not say: {count}",
    "folder-changed-while-read": "folders in which names came or went after they were listed: {count}. "
    "What came is NOT in this acquisition",
    "listed-not-reached": "listed names that lie behind something that is no folder: {count}",
}
_NAMED_REMARKS: Final[tuple[Remark, ...]] = ("folder-changed-while-read", "listed-not-reached")


def push_output(outcome: PushOutcome, kept: FinishedReceipt) -> PushOutput:
    """The outcome as a document."""
    tally = outcome.tally.manifest
    return PushOutput(
        case=outcome.name.case.text,
        item=outcome.name.item.text,
        acquisition=outcome.acquisition,
        vault_id=outcome.vault_id,
        session=outcome.session,
        verdict=verdict_of(outcome),
        files=tally.contents,
        bytes=tally.bytes,
        wire_sent=outcome.wire_sent,
        wire_received=outcome.wire_received,
        literal_bytes=outcome.literal_bytes,
        reused_bytes=outcome.reused_bytes,
        zero_bytes=outcome.zero_bytes,
        stored=outcome.stored,
        seconds=round(outcome.seconds, 6),
        interruptions=outcome.interruptions,
        continued=outcome.leftovers,
        read_back=outcome.read_back,
        damaged_in_vault=outcome.damaged,
        changed_folders=outcome.tally.changed_folders,
        bad_bytes=outcome.tally.bad_bytes,
        bad_ranges=outcome.tally.bad_ranges,
        partial=outcome.tally.partial,
        read_again=outcome.tally.read_again,
        listed_not_there=outcome.tally.not_there_count,
        vault_clock_ahead_seconds=round(outcome.clock_offset_ns / 1e9, 3),
        source_clock_ahead_seconds=None
        if outcome.source_clock_offset_ns is None
        else round(outcome.source_clock_offset_ns / 1e9, 3),
        times_contradict=[safe_text(text, 300) for text in outcome.contradictions],
        manifest_sha256=outcome.manifest_sha256,
        receipt_sha256=outcome.receipt_sha256,
        chain_head_sha256=outcome.chain_head_sha256,
        vault_head_sequence=outcome.vault_head.sequence if outcome.vault_head is not None else None,
        vault_head_sha256=outcome.vault_head.sha256 if outcome.vault_head is not None else None,
        fingerprint=notebook_fingerprint(outcome.manifest_sha256),
        flags=tally.flags,
        remarks=tally.remarks,
        flagged=[FlaggedPath(flag, *to_json_fields(path)) for path, flag in outcome.tally.flagged],
        receipts=safe_text(str(kept.folder)),
        manifest_kept=kept.lacks is None,
        changes=changes_output(outcome),
        other_source=outcome.other_source,
        alike_items=list(outcome.alike.items) if outcome.alike is not None else [],
        alike_cases=list(outcome.alike.cases) if outcome.alike is not None else [],
        earlier=tally.earlier,
        why_all_read=outcome.why_all_read,
    )


def changes_output(outcome: PushOutcome) -> ChangesOutput | None:
    """What differs from the acquisition before, as a document."""
    found = outcome.changes
    if found is None:
        return None
    return ChangesOutput(
        since=outcome.acquisition - 1,
        added=found.added,
        removed=found.removed,
        moved=found.moved,
        changed=found.changed,
        metadata=found.metadata,
        filtered=found.filtered,
    )


Detail = Literal["one line", "summary", "everything"]
_PUBLISHED: Final = {
    "complete": "published, complete",
    "gaps": "published, WITH GAPS",
    "source-changed": "published, SOURCE CHANGED",
}


def push_lines(
    outcome: PushOutcome,
    request: PushRequest,
    address: Address,
    kept: FinishedReceipt,
    *,
    following: str,
    pulled: bool = False,
    detail: Detail = "summary",
) -> Iterator[str]:
    """The outcome for people. `address` is the vault's. What a pull's evidence came in is what this end received.

    `following` is the command that comes next.
    """
    tally, fingerprint = outcome.tally.manifest, notebook_fingerprint(outcome.manifest_sha256)
    said = f"{outcome.name}, acquisition {outcome.acquisition}: {_PUBLISHED[verdict_of(outcome)]}"
    if detail == "one line":
        yield f"{said}; fingerprint {fingerprint}"
        yield from _warning_lines(outcome, kept)
        return
    yield said
    since = f"; {changes_text(outcome.changes, outcome.acquisition - 1)}" if outcome.changes is not None else ""
    yield f"  evidence     {count_text(tally.contents, 'file')}, {size_text(tally.bytes)}{since}"
    if tally.earlier is not None:
        yield f"  not read     {earlier_text(tally.earlier, tally.contents, outcome.acquisition)}"
    elif request.quick and outcome.why_all_read is None:
        yield "  not read     nothing: no file looked as it did, or it had changed just before the last acquisition"
    if outcome.why_all_read is not None:
        yield f"  note         everything was read although --quick was given: {outcome.why_all_read}"
    if not_sent := _not_sent(outcome):
        yield f"  not sent     {not_sent}"
    travelled = outcome.wire_received if pulled else outcome.wire_sent
    share = f" ({share_text(travelled, tally.bytes)})" if travelled <= tally.bytes else ""
    compressed = ", compressed," if travelled < _had_to_travel(outcome) else ""
    read_back = "read back from the vault's disk" if outcome.read_back else "NOT read back from the vault's disk"
    took = f"in {duration_text(outcome.seconds)}, start to receipt"
    yield f"  travelled    {size_text(travelled)}{share}{compressed} {took}; {read_back}"
    if detail == "everything":
        yield from _transfer_lines(outcome, address, pulled=pulled)
    if outcome.interruptions:
        yield f"  interrupted  the link was lost {count_text(outcome.interruptions, 'time')}"
    if outcome.leftovers:
        data = f"the vault had kept data of {count_text(outcome.leftovers, 'unfinished attempt')}, and used what fitted"
        yield f"  resumed      {data}"
    yield f"  fingerprint  {fingerprint}"
    if detail == "everything":
        yield f"  chain head   {outcome.chain_head_sha256}"
        if outcome.vault_head is not None:
            yield f"  vault head   {outcome.vault_head.sha256} (record {outcome.vault_head.sequence})"
        yield f"  receipt      {safe_text(str(kept.folder))}"
    if request.skip_unchanged and outcome.acquisition > 1 and (why := _why_published(outcome)) is not None:
        yield f"  note         published although --skip-unchanged was given: {why}"
    if outcome.other_source is not None:
        yield f"  note         acquisition {outcome.acquisition - 1} came from another source: {outcome.other_source}"
    yield from _warning_lines(outcome, kept)
    yield from own_lines(request.rules)
    yield from empty_lines(tally)
    yield from flagged_lines(outcome.tally, request.rules, left_out=detail == "everything")
    yield f"  next         {following}"


def _had_to_travel(outcome: PushOutcome) -> int:
    """Returns how many bytes were sent before they were compressed, once: what a lost link takes away is sent twice."""
    return min(outcome.literal_bytes, outcome.tally.manifest.bytes - outcome.zero_bytes)


def _not_sent(outcome: PushOutcome) -> str:
    """What did not have to travel; empty where there are no zeros. That the vault had the rest is plain then."""
    zeros, had = outcome.zero_bytes, outcome.reused_bytes
    said = [f"{size_text(zeros)} of zeros and holes", *([f"{size_text(had)} that the vault had"] if had else [])]
    return ", ".join(said) if zeros else ""


def changes_text(changes: Changes, since: int) -> str:
    """What differs from the acquisition before, in a few words, with its number."""
    said = changed_text(changes)
    return f"since acquisition {since}: {said}" if said else f"nothing changed since acquisition {since}"


def changed_text(changes: Changes) -> str:
    """What differs from the acquisition before, in a few words; empty if nothing does."""
    counts = {"added": changes.added, "removed": changes.removed, "changed": changes.changed, "moved": changes.moved or 0}
    said = [f"{count:,} {what}" for what, count in counts.items() if count]
    if changes.metadata:
        said.append(f"other attributes of {changes.metadata:,}")
    if changes.filtered:
        said.append(f"{changes.filtered:,} left out of one of both by a filter")
    if changes.moved is None:
        said.append("moves not looked for")
    return ", ".join(said)


def _why_published(outcome: PushOutcome) -> str | None:
    """Why a source was published that has no difference to name; None where there is one."""
    if outcome.changes is None:
        return f"it could not be compared with acquisition {outcome.acquisition - 1}"
    if any((value or 0) > 0 for value in msgspec.structs.astuple(outcome.changes)):
        return None
    if outcome.literal_bytes:
        return f"not all of what acquisition {outcome.acquisition - 1} has could be found in the vault, and it was sent again"
    if not outcome.previous_is_whole:
        return f"the vault does not have all documents of acquisition {outcome.acquisition - 1} any more: verify names them"
    return "something differs that is not counted, such as the numbers of mounts, holes, filters, or the system of the machine"


def _transfer_lines(outcome: PushOutcome, address: Address, *, pulled: bool) -> Iterator[str]:
    """How the evidence came to lie in the vault."""
    tally, back = outcome.tally.manifest, outcome.wire_sent if pulled else outcome.wire_received
    counted = ", counted on ssh's pipes" if pulled or not address.local else ""
    yield f"  {'asked' if pulled else 'came back':<12} {size_text(back)}{counted}"
    share = share_text(outcome.reused_bytes, tally.bytes)
    reused = f"{size_text(outcome.reused_bytes)} ({share}) was in {LOOKUPS[outcome.lookup]} already, or came before"
    zeros = f", {size_text(outcome.zero_bytes)} are zeros" if outcome.zero_bytes else ""
    yield f"  reused       {reused}{zeros}"
    counted = ", zeros included" if outcome.zero_bytes and outcome.stored.written.bytes else ""  # which take no room as holes
    yield f"  stored       {stored_text(outcome.stored)}{counted}"
    yield f"  rate         {rate_text(tally.bytes, outcome.seconds)}"


def alike_lines(name: ItemName, items: Sequence[str], cases: Sequence[str]) -> Iterator[str]:
    """Says that a new item or case may be another spelling of one that is there: what is published cannot be moved."""
    for said in _alike_sentences(name, items, cases):
        yield f"  note         {said}, too"


def _alike_sentences(name: ItemName, items: Sequence[str], cases: Sequence[str]) -> Iterator[str]:
    for what, own, alike, where in (("item", name.item, items, "the case"), ("case", name.case, cases, "the vault")):
        if alike:
            yield f"new {what} {safe_text(own.text)}; {where} has {', '.join(map(safe_text, alike))}"


@dataclass(slots=True)
class AboutNewItem:
    """Asks a person whether a new item is meant that may be another spelling of one that is there.

    A script is told, and so is whoever is not to be asked.
    """

    console: Console
    name: ItemName
    asks: bool
    is_answered: bool = False

    def ask(self, alike: Alike) -> None:
        """Asks, or says it in a note, before anything is sent: once, however often the session begins anew.

        Raises InterruptedRunError for any other answer than yes.
        """
        if self.is_answered or not (alike.items or alike.cases):
            return
        said = "; ".join(_alike_sentences(self.name, alike.items, alike.cases))
        if self.asks and self.console.can_ask:
            there = shell_text("--item", alike.items[0]) if alike.items else shell_text("--case", alike.cases[0])
            question = f"This makes a {said}. Is a new one meant?"
            self.console.confirm(question, f"Nothing was sent. Did you mean {there}? If not, answer yes, or give --yes.")
        else:
            self.console.print_message(f"note: {said}, too")
        self.is_answered = True


def _warning_lines(outcome: PushOutcome, kept: FinishedReceipt) -> Iterator[str]:
    """What a person has to look at, although the acquisition is published."""
    if outcome.alike is not None:
        yield from alike_lines(outcome.name, outcome.alike.items, outcome.alike.cases)
    if outcome.damaged:
        files = count_text(outcome.damaged, "file")
        yield f"  WARNING      {files} of earlier acquisitions damaged or unreadable in the vault, and not used: run verify there"
    yield from _clock_lines("vault", outcome.clock_offset_ns / 1e9)
    yield from _clock_lines("source", (outcome.source_clock_offset_ns or 0) / 1e9)
    for text in outcome.contradictions:
        yield f"  WARNING      {safe_text(text, 300)}: verify may refuse a signature for that date; look at the vault's clock"
    if kept.lacks is not None:
        yield f"  WARNING      the receipt is kept without the manifest and the vault's records: {safe_text(kept.lacks, 200)}"


def unchanged_output(found: UnchangedSource) -> UnchangedOutput:
    """An unchanged source as a document."""
    tally = found.tally.manifest
    return UnchangedOutput(
        case=found.name.case.text,
        item=found.name.item.text,
        vault_id=found.vault_id,
        unchanged=True,
        since=found.acquisition,
        manifest_sha256=found.manifest_sha256,
        files=tally.contents,
        bytes=tally.bytes,
        seconds=round(found.seconds, 6),
        earlier=tally.earlier,
    )


def unchanged_lines(found: UnchangedSource, detail: Detail) -> Iterator[str]:
    """An unchanged source for people."""
    tally = found.tally.manifest
    yield f"{found.name}: nothing changed since acquisition {found.acquisition}, and nothing was published"
    if detail == "one line":
        return
    yield f"  read         {count_text(tally.contents, 'file')}, {size_text(tally.bytes)} in {duration_text(found.seconds)}"
    if tally.earlier is not None:
        yield f"  of these     {earlier_text(tally.earlier, tally.contents, found.acquisition + 1)}"
    yield f"  fingerprint  {notebook_fingerprint(found.manifest_sha256)} (of acquisition {found.acquisition})"


def _clock_lines(whose: str, ahead: float) -> Iterator[str]:
    """Warns that two clocks differ. Which of them is wrong is not known, but a person can still check it now."""
    if abs(ahead) > _CLOCK_SECONDS:
        way = "ahead of" if ahead > 0 else "behind"
        yield f"  WARNING      the {whose}'s clock is {duration_text(abs(ahead))} {way} this machine's: compare both with a third"


def verdict_of(outcome: PushOutcome) -> PushVerdict:
    """The verdict: gaps if something is missing, else whether something changed. What a filter left out is no gap."""
    return outcome.tally.state.verdict


@dataclass(frozen=True, slots=True)
class Missing:
    """What a list names and what is not there: the first few paths, folders on the way to them among these, and how many."""

    paths: set[bytes]
    count: int
    rules: FilterRules


def empty_lines(tally: ManifestTally) -> Iterator[str]:
    """Says that the source is empty, if nothing was left out of it: that is evidence, but seldom intended."""
    if not tally.taken and not tally.flags:
        yield "  NOTHING      the source is empty: there is no file in it"


def own_lines(rules: FilterRules) -> Iterator[str]:
    """Folders in the source that are left out because this run itself writes there."""
    for folder in rules.own:
        yield f"  own state    left out, for it is no evidence: {safe_text(folder.path, 300)}"


def flagged_lines(
    tally: SourceTally, rules: FilterRules, *, left_out: bool = False, rest: str = "the manifest lists them all"
) -> Iterator[str]:
    """What was not read as it should be, or what only the end of the walk could tell; then the first paths by name.

    With `left_out` what filters left out is named, too. `rest` says where paths are found that are not named here.
    """
    missing = Missing(tally.not_there, tally.not_there_count, rules)
    flags, remarks = tally.manifest.flags, tally.manifest.remarks
    absent = missing.count - remarks.get("listed-not-reached", 0)
    for flag, count in flags.items():
        others = count - absent if flag == "vanished" else count
        if others:
            own = flag == "skipped" and missing.rules.own
            yield f"  {count_text(others, 'entry', 'entries')} {_OWN_TOO if own else _FLAG_WORDS.get(flag, flag)}"
    if absent:
        yield f"  {count_text(absent, 'entry', 'entries')} listed but not there"
    for remark, count in remarks.items():
        yield f"  {_REMARK_WORDS[remark].format(count=f'{count:,}')}"
    yield from _reading_lines(tally)
    shown = _worth_naming(tally.flagged)
    for path, flag in shown:
        word = "listed but not there" if flag == "vanished" and path in missing.paths else flag
        yield f"    {word}: {safe_text(path, 300) if path else '.'}"
    named = sum(count for flag, count in flags.items() if flag != "skipped")
    named += sum(remarks.get(remark, 0) for remark in _NAMED_REMARKS)
    more = named - len(shown)
    if more > 0:
        yield f"    and {more:,} more: {rest}"
    if left_out:
        yield from _left_out_lines(tally, rest)
    if missing.count and missing.rules.listed is not None:
        yield f"    {missing.rules.listed.hint}"


def _left_out_lines(tally: SourceTally, rest: str) -> Iterator[str]:
    skipped = [path for path, flag in tally.flagged if flag == "skipped"]
    for path in skipped:
        yield f"    left out: {safe_text(path, 300)}"
    if (more := tally.manifest.flags.get("skipped", 0) - len(skipped)) > 0:
        yield f"    and {more:,} more left out: {rest}"


def _reading_lines(tally: SourceTally) -> Iterator[str]:
    if tally.bad_bytes:
        bad = f"{size_text(tally.bad_bytes)} in {count_text(tally.bad_ranges, 'range')} of {count_text(tally.partial, 'file')}"
        yield f"  {bad} could not be read: the digests are of what stands there instead (see read_errors in the manifest)"
    for path, why in tally.lacking:
        yield f"  {safe_text(path, 300)} may not be all: {safe_text(why, 300)}"
    if tally.read_again:
        yield f"  files that had changed were read again {count_text(tally.read_again, 'time')}"


def _worth_naming(flagged: list[tuple[bytes, Flag]]) -> list[tuple[bytes, Flag]]:
    """The first few paths of each flag, the most severe flag first: many of one kind must not hide another."""
    kinds = [[(path, flag) for path, flag in flagged if flag == kind] for kind in _WORST_FIRST]
    rest = _LISTED_FLAGS
    shown = []
    for at, kind in enumerate(kinds):
        kept = sum(min(len(later), _LEAST_OF_EACH) for later in kinds[at + 1 :])
        shown += kind[: max(rest - kept, _LEAST_OF_EACH)]
        rest = _LISTED_FLAGS - len(shown)
    return shown
