"""Writes the lines of an item for people: its acquisitions as in a list, its custody records, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from evidencesync.cli.lines import wrapped
from evidencesync.evidence.display import person_text, safe_text
from evidencesync.evidence.number_format import count_text, size_text, time_text

if TYPE_CHECKING:
    from evidencesync.cli.outputs import ListedItem, Problem
    from evidencesync.custody.documents import CustodyRecord

_PROBLEM_WORDS: Final = {
    "chain-broken": "NOT AS IT WAS",
    "rolled-back": "NOT AS IT WAS",
    "forked": "NOT AS IT WAS",
    "missing-or-extra": "MISSING OR EXTRA",
    "bad-signature": "DAMAGED",
    "remembered-heads": "NOT COMPARED WITH WHAT THIS MACHINE HAS SEEN",
}


def problem_words(problem: Problem, what: str = "") -> str:
    """What is wrong, and with what."""
    return f"{what} {_PROBLEM_WORDS.get(problem.slug, 'CANNOT BE READ')}: {problem.message}".lstrip()


def item_lines(item: ListedItem) -> Iterator[str]:
    """An item of a list, and its acquisitions, for people."""
    from evidencesync.custody.wholeness import SourceState

    title = item.folder if item.case is None or item.item is None else f"{safe_text(item.case)} / {safe_text(item.item)}"
    records = "" if item.records is None else f"  {count_text(item.records, 'custody record')}"
    yield from wrapped("", f"{title}{records}")
    if item.chain_head_sha256:
        yield f"  chain head {item.chain_head_sha256}"
    if item.problem is not None:
        yield f"  {problem_words(item.problem)}"
    for one in item.acquisitions:
        if one.problem is not None:
            yield f"  {one.acquisition:04}  {problem_words(one.problem)}"
            continue
        extent = f"{count_text(one.files or 0, 'file'):>12}  {size_text(one.bytes or 0):>8}"
        unread_bytes = one.bytes_not_readable or 0
        state = SourceState.of(one.flags or {}, one.remarks, filtered=bool(one.filtered), unread_bytes=unread_bytes)
        yield "  ".join(
            [
                f"  {one.acquisition:04}",
                time_text(one.received or "").removesuffix(" UTC"),
                extent,
                one.fingerprint or "",
                *state.parts,
                *([f"{count_text(one.earlier.files, 'file')} not read again"] if one.earlier is not None else []),
            ]
        )


def record_line(record: CustodyRecord) -> str:
    """A custody record in one line, without what it states."""
    about = f", acquisition {record.acquisition}" if record.acquisition is not None else ""
    who = person_text(record.actor.name, record.actor.principal)
    return f"    {record.sequence:04}  {record.time}  {record.type}{about}, by {who}"
