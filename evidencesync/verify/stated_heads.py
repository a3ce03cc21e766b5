"""Collects what the vault's own chain states of items' chains, for all checks that come after."""

from __future__ import annotations

from evidencesync.vault.stated import parse_head
from evidencesync.verify.chains import ChainReader
from evidencesync.verify.checks import Check
from evidencesync.verify.context import Context, Statement
from evidencesync.verify.findings import Reporter


def take_statements(context: Context, report: Reporter, chain: ChainReader) -> None:
    """Takes the statements of the vault's own chain; again, after it was read on. `report` is about its folder.

    Every statement is kept: a later one, made after an item's chain was cut, must not hide an earlier one.
    """
    for place, stated in chain.stated_heads:
        case, _, item = place.partition("/")
        head = parse_head(stated)
        if head is not None:
            _record_stated(context, report, (case, item), *head)
    for place, stated, at_ns, number in chain.stated_times:
        case, _, item = place.partition("/")
        head = parse_head(stated)
        if head is not None:  # the first statement is the best bound
            context.stated_times.setdefault((case, item), {}).setdefault(head[0], Statement(head[1], at_ns, number))
    chain.stated_heads.clear()
    chain.stated_times.clear()


def _record_stated(context: Context, report: Reporter, place: tuple[str, str], sequence: int, sha256: str) -> None:
    stated = context.stated_heads.setdefault(place, {})
    if stated.setdefault(sequence, sha256) != sha256:
        text = f"the vault's own chain states two records {sequence} of one item: {stated[sequence]}, and later {sha256}"
        report.report(Check.VAULT, "forked", text)
