"""A vault's chains against what this machine has seen of them before, and what it remembers after a pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.seen import Comparison, SeenChain
from evidencesync.custody.witness import whose_chain
from evidencesync.errors import ForkedError, RememberedHeadsError
from evidencesync.evidence.moment import format_moment
from evidencesync.kept.heads import HeadMemory, Remembered
from evidencesync.verify.checks import Check
from evidencesync.verify.context import Context
from evidencesync.verify.findings import Reporter

_SLUGS: Final = {
    Comparison.OLDER_COPY: "older-copy",
    Comparison.SHORTER: "rolled-back",
    Comparison.FORKED: "forked",
}

Selected = Callable[[str | None, str | None], bool]
"""Whether an item, by its exact case and item number, is one that was asked for. The vault's own chain always is."""


def check_remembered(context: Context, memory: HeadMemory, selected: Selected) -> None:
    """Compares every chain that was seen before, and was asked for now. What is remembered but cannot be read is a finding."""
    try:
        remembered = memory.recall_vault(context.identity.vault_id)
    except RememberedHeadsError as error:
        text = f"{error.message}. {error.hint}"
        context.report.report(Check.CUSTODY, "memory-damaged", text)
        return
    for one in remembered:
        if selected(one.subject.case, one.subject.item):
            _check_one(context, one)


def remember_heads(context: Context, memory: HeadMemory) -> None:
    """Keeps how far all chains go that were checked. Call after a pass only."""
    vault_id, seen = context.identity.vault_id, format_moment(context.judge.now_ns)
    heads = [
        Remembered(ChainSubject(vault_id, case, item), context.identity.key, chain, seen)
        for (case, item), digests in context.digests.items()
        if (chain := _chain_of(digests)) is not None
    ]
    try:
        memory.remember(heads)
    except ForkedError as error:
        context.report.report(Check.CUSTODY, "forked", error.message)
    except RememberedHeadsError as error:
        context.report.report(Check.CUSTODY, "not-remembered", error.message)


def _check_one(context: Context, before: Remembered) -> None:
    subject, report = before.subject, _report_about(context.report, before.subject)
    if before.vault_key != context.identity.key:
        text = f"the vault's key is {context.identity.key}; this machine has seen it with {before.vault_key}"
        report.report(Check.VAULT, "forked", text)
        return
    seen = f"record {before.chain.sequence}, {before.chain.sha256}"
    present = _chain_of(context.digests.get((subject.case, subject.item), {}))
    if present is None:
        report.report(Check.CUSTODY, "rolled-back", f"this machine has seen {whose_chain(subject)} up to {seen}; it is gone")
        return
    found = before.chain.compare(present)
    if found is not Comparison.EXTENDS:
        ends = f"record {present.sequence}, {present.sha256}"
        text = f"{whose_chain(subject)} ends with {ends}; this machine has seen it up to {seen}: {found.value}"
        report.report(Check.CUSTODY, _SLUGS[found], text)


def _chain_of(digests: dict[int, str]) -> SeenChain | None:
    """A chain as it lies there. A record that is missing in it, which is a finding of its own, has no digest."""
    last = max(digests, default=0)
    return SeenChain(last, tuple(digests.get(number, "") for number in range(1, last + 1))) if last else None


def _report_about(report: Reporter, subject: ChainSubject) -> Reporter:
    return report.about(subject.case, subject.item) if subject.case is not None and subject.item is not None else report
