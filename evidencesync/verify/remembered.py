"""Compares a vault's chains with what this machine has seen of them before, and remembers them after a pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from typing import Final

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.consistency import ChainComparison, KnownChain, whose_chain
from evidencesync.errors import ForkedError, NameClashError, RememberedHeadsError
from evidencesync.evidence.identity import Title
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.localstate.heads import HeadMemory, RememberedHead
from evidencesync.vault.layout import CASES, CUSTODY
from evidencesync.verify.checks import Check
from evidencesync.verify.context import Context
from evidencesync.verify.findings import Reporter

_SLUGS: Final = {
    ChainComparison.OLDER_COPY: "older-copy",
    ChainComparison.SHORTER: "rolled-back",
    ChainComparison.FORKED: "forked",
}

Selected = Callable[[str | None, str | None], bool]
"""Whether an item is selected, by its exact case and item number. The vault's own chain always is."""


def recall_heads(memory: HeadMemory, vault_id: str, report: Reporter) -> list[RememberedHead]:
    """Returns what was seen of a vault's chains. A memory that cannot be read is a finding.

    Call it before any chain is read, because a push that ends meanwhile is remembered, too: what was remembered before must be
    in whatever is read later.
    """
    try:
        return memory.recall_vault(vault_id)
    except RememberedHeadsError as error:
        report.report(Check.CUSTODY, "memory-damaged", f"{error.message}. {error.hint}")
        return []


def folders_of(subject: ChainSubject) -> tuple[str | None, str | None]:
    """Returns the names of a chain's case and item folder; none for the vault's own."""
    if subject.case is None or subject.item is None:
        return None, None
    return Title(subject.case).folder, Title(subject.item).folder


def check_remembered(context: Context, remembered: Iterable[RememberedHead], selected: Selected) -> None:
    """Compares every selected chain that was seen before (see `recall_heads`)."""
    for one in remembered:
        if selected(one.subject.case, one.subject.item):
            _check_one(context, one)


def remember_heads(context: Context, memory: HeadMemory) -> None:
    """Remembers the heads of all chains that were checked. Call after a pass only."""
    vault_id, seen = context.identity.vault_id, format_utc_time(context.judge.now_ns)
    keys = context.keys.keys
    heads = [
        RememberedHead(ChainSubject(vault_id, case, item), keys.current, chain, seen, keys.all)
        for (case, item), digests in context.digests.items()
        if (chain := _chain_of(digests)) is not None
    ]
    remember_chains(context.report, memory, heads)


def remember_chains(report: Reporter, memory: HeadMemory, heads: list[RememberedHead]) -> None:
    """Remembers chains. What goes wrong is a finding."""
    try:
        memory.remember(heads)
    except (ForkedError, NameClashError) as error:
        report.report(Check.CUSTODY, "forked", error.message)
    except RememberedHeadsError as error:
        report.report(Check.CUSTODY, "not-remembered", error.message)


def _check_one(context: Context, before: RememberedHead) -> None:
    subject, report = before.subject, _report_about(context.report, before.subject)
    keys = context.keys
    if before.vault_key not in keys.keys.all:
        text = f"the vault's key is {keys.keys.current}; this machine has seen it with {before.vault_key}"
        report.report(Check.VAULT, "not-compared" if keys.lost else "forked", keys.text(text))
        return
    seen = f"record {before.chain.sequence}, {before.chain.sha256}"
    key = subject.case, subject.item
    digests, unread = context.digests.get(key, {}), context.unread.get(key, frozenset())
    if context.report.findings.is_unread(place_of(subject)):
        return  # reported already: not all of the chain could be read
    present = _chain_of(digests, unread)
    if present is None:
        report.report(Check.CUSTODY, "rolled-back", f"this machine has seen {whose_chain(subject)} up to {seen}; it is gone")
        return
    found, differing = _compare(before.chain, present, digests, unread), _differing(before.chain, digests)
    if found is ChainComparison.FORKED and differing and differing <= context.damaged.get(key, frozenset()):
        text = f"{whose_chain(subject)} was seen by this machine up to {seen}; a record that was seen is damaged"
        report.report(Check.CUSTODY, "chain-broken", text)
        return
    if found is not ChainComparison.EXTENDS:
        ends = f"record {present.sequence}, {present.sha256 or 'which cannot be read'}"
        text = f"{whose_chain(subject)} ends with {ends}; this machine has seen it up to {seen}: {found.value}"
        report.report(Check.CUSTODY, _SLUGS[found], text)


def _compare(before: KnownChain, present: KnownChain, digests: Mapping[int, str], unread: Set[int]) -> ChainComparison:
    """Compares as `KnownChain.compare`; a record that is there and cannot be read may be the one that was seen."""
    if unread and _differing(before, digests):
        return ChainComparison.FORKED
    if present.sequence in unread and present.sequence < before.sequence:
        return ChainComparison.SHORTER
    return ChainComparison.EXTENDS if before.sequence in unread else before.compare(present)


def _differing(before: KnownChain, digests: Mapping[int, str]) -> set[int]:
    """Returns the numbers of the records that are not those that were seen."""
    return {number for number, digest in digests.items() if before.digest_of(number) not in (digest, None)}


def place_of(subject: ChainSubject) -> bytes:
    """Returns the folder of a chain, from the vault's root."""
    case, item = folders_of(subject)
    return f"{CASES}/{case}/{item}/{CUSTODY}".encode() if case is not None else CUSTODY.encode()


def _chain_of(digests: Mapping[int, str], unread: Set[int] = frozenset()) -> KnownChain | None:
    """Returns a chain as it is now. A missing record, which is a finding of its own, has no digest."""
    last = max(digests.keys() | unread, default=0)
    return KnownChain(last, tuple(digests.get(number, "") for number in range(1, last + 1))) if last else None


def _report_about(report: Reporter, subject: ChainSubject) -> Reporter:
    return report.about(subject.case, subject.item) if subject.case is not None and subject.item is not None else report
