"""Composes the table of page one: every acquisition in a row, and before them what was found about a whole item, or the vault."""

from __future__ import annotations

from typing import Final

from evidencesync.custody.labels import source_text
from evidencesync.custody.wholeness import SourceState
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, size_text, time_text
from evidencesync.report import texts
from evidencesync.report.blocks import Column, Table
from evidencesync.report.document import Acquisition, Item, Judgement
from evidencesync.report.verdicts import findings_about, findings_of_vault, mark, severities_text
from evidencesync.report.volumes import Volume

# Shares are millimetres of a page: a fingerprint stands in one line, what is beside it in two or three.
_COLUMNS: Final = [
    Column("Item", "text", 21),
    Column("No.", "number", 8),
    Column("Errors", "text", 17),
    Column("Complete?", "text", 17),
    Column("What was collected, from where", "text", 35),
    Column("Started to received (UTC), and by whom", "text", 33),
    Column("Fingerprint for the notebook", "exact", 39),
]


def state_of(one: Acquisition) -> SourceState | None:
    """How much of its source an acquisition has; None if its manifest cannot be read."""
    if one.header is None or one.footer is None or one.contents.problem is not None:
        return None
    return SourceState.of_manifest(one.header, one.footer, one.contents.unread_bytes)


def item_table(judgement: Judgement, volume: Volume) -> Table:
    """One row an acquisition: what, who, when, what was found about it, and the fingerprint for the notebook.

    What was found about no acquisition has a row of its own: no row below it says that all is well.
    """
    rows = []
    whole = findings_of_vault(judgement)
    if whole and volume.number == 1:
        rows.append(["-", "-", f"{mark(whole)} {severities_text(whole)}", "-", texts.WHOLE_VAULT, "-", "-"])
    for shown in volume.items:
        item = shown.item
        found = findings_about(judgement, item, None)
        if not item.acquisitions:
            read = "! cannot be read" if item.problem else "nothing acquired"
            rows.append([safe_text(item.item, 80), "-", found, read, "-", "-", "-"])
        elif shown.begins and found.startswith(texts.MARKS):
            rows.append([safe_text(item.item, 80), "all", found, "-", texts.WHOLE_ITEM, "-", "-"])
        rows += [_row(judgement, item, one) for one in shown.acquisitions]
    return Table("Items and acquisitions", _COLUMNS, rows)


def _row(judgement: Judgement, item: Item, one: Acquisition) -> list[str]:
    state = state_of(one)
    read = "? not known" if state is None else f"{'' if state.verdict == 'complete' else '! '}{state.words}"
    found = findings_about(judgement, item, one.number)
    fingerprint = one.fingerprint or "cannot be read"
    return [safe_text(item.item, 80), str(one.number), found, read, _collected(one), _acquired(one), fingerprint]


def _collected(one: Acquisition) -> str:
    """How much an acquisition has, and of what."""
    arrived = one.receipt.points.arrival if one.receipt is not None else None
    noun = "device" if one.footer is not None and "block-device" in one.footer.counts else "file"
    size = f"{count_text(arrived.files, noun)}, {size_text(arrived.bytes)}" if arrived is not None else "cannot be read"
    if one.header is None:
        return size
    return f"{size}, from {source_text(one.header, 80, 120)}"


def _acquired(one: Acquisition) -> str:
    """When an acquisition was started, when the vault had received it, and who made it."""
    if one.header is None:
        return "cannot be read"
    started = time_text(one.header.started).removesuffix(" UTC")
    received = time_text(one.receipt.finished).removesuffix(" UTC") if one.receipt is not None else "?"
    received = received.removeprefix(started[:11])  # the day once, if it is the same
    return f"{started} to {received}, by {safe_text(one.header.examiner.name, 80)}"
