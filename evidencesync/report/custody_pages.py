"""Composes the pages about an item's chain of custody: who has it, whether it is sealed, and what each record states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from evidencesync.evidence.display import person_text, safe_text
from evidencesync.evidence.number_format import time_text
from evidencesync.report import texts
from evidencesync.report.blocks import Column, Fact, Paragraph, Section, Table
from evidencesync.report.charts import custody_timeline
from evidencesync.report.document import CustodyStep, HandOver, Item, Judgement
from evidencesync.report.record_texts import message_text, record_text
from evidencesync.report.timestamps import authority_text

if TYPE_CHECKING:
    from evidencesync.custody.documents import CustodyRecord

_KEY: Final = 8  # characters by which a key is told in a table


def holding_facts(item: Item) -> Iterator[Fact]:
    """Who has an item, and whether it is closed."""
    if item.held_by is not None:
        yield Fact("Held by", holder_text(item))
    if item.open_hand_over is not None:
        yield _open(item.open_hand_over)
    if (sealed := sealing_record(item)) is not None:
        yield Fact("Sealed", f"since {time_text(sealed.time)} (custody record {sealed.sequence}): it takes no more acquisitions")


def holder_text(item: Item) -> str:
    """Who has accepted an item last, by the name in that record; empty for nobody."""
    principal = item.held_by or ""
    names = [one.actor.name for one in _records(item) if one.type == "accepted" and one.actor.principal == principal]
    return person_text(names[-1], principal, 200, 200) if names else safe_text(principal, 200)


def sealing_record(item: Item) -> CustodyRecord | None:
    """The record that has sealed an item; None for an open one."""
    return next((record for record in _records(item) if record.type == "sealed"), None)


def custody_section(anchor: str, item: Item, judgement: Judgement) -> Section:
    """The time line, and all records."""
    if not item.custody:
        return Section("Custody", 3, f"{anchor}-custody", [Paragraph("The custody records cannot be read.", "warning")])
    corrected = _corrections(item)
    rows = [_row(step, _remark(step, corrected, item, judgement)) for step in item.custody]
    columns = [
        Column("No.", "number", 2),
        Column("Record", "text", 5),
        Column("Recorded (UTC)", "text", 6),
        Column("By", "text", 7),
        Column("What it states", "text", 15),
        Column("Signature", "text", 6),
    ]
    table = Table(texts.EVERY_RECORD, columns, rows)
    return Section("Custody", 3, f"{anchor}-custody", [custody_timeline(f"{anchor}-time", item), table])


def _records(item: Item) -> Iterator[CustodyRecord]:
    """The records whose signatures were not refused."""
    return (step.record for step in item.custody if step.record is not None and step.signature != "refused")


def _corrections(item: Item) -> dict[int, list[int]]:
    """The numbers of the records that correct a record, by its number."""
    found: dict[int, list[int]] = {}
    for record in _records(item):
        wrong = record.details.get("record", "")
        if record.type == "corrected" and wrong.isascii() and wrong.isdecimal():
            found.setdefault(int(wrong), []).append(record.sequence)
    return found


def _open(handed: HandOver) -> Fact:
    who_to_whom = f"{safe_text(handed.principal)} to {safe_text(handed.to)}"
    return Fact("Hand-over", f"open since custody record {handed.record}: {who_to_whom}, who has not accepted it")


def _remark(step: CustodyStep, corrected: Mapping[int, list[int]], item: Item, judgement: Judgement) -> str:
    """What is known of a statement beside the record itself: what corrects it, and who checked a timestamp."""
    record, by = step.record, corrected.get(step.sequence)
    said = [f"corrected by record {', '.join(map(str, by))}"] if by else []
    if record is not None and record.type == "timestamped" and record.acquisition is not None:
        said.append(authority_text(judgement, item, record.acquisition))
    return "".join(f" [{one}]" for one in said)


def _row(step: CustodyStep, remark: str) -> list[str]:
    state = {"good": "✓ good", "refused": "✗ refused", "not-checked": "? not checked"}[step.signature]
    record = step.record
    # a good signature is by the key that the record names
    if record is not None and step.signature == "good":
        signature = f"{state}, key {safe_text(record.actor.key).removeprefix('SHA256:')[:_KEY]}…"
    else:
        signature = f"{state}: {message_text(step.signature_detail)}"
    if record is None:
        return [str(step.sequence), "not there, or not read", "-", "-", "-", signature]
    about = f", acquisition {record.acquisition}" if record.acquisition is not None else ""
    organisation = f", {safe_text(record.actor.organisation)}" if record.actor.organisation else ""
    who = f"{person_text(record.actor.name, record.actor.principal)}{organisation}"
    return [
        str(step.sequence),
        f"{record.type.replace('-', ' ')}{about}",
        time_text(record.time).removesuffix(" UTC"),
        who,
        (record_text(record) or "-") + remark,
        signature,
    ]
