"""Says what a report knows of timestamps: when, by whose word, and whether whose word that is was checked.

A record states what a token says of itself, and anybody can make a token. Only a verdict knows whether its authority is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from evidencesync.report import texts
from evidencesync.report.document import Acquisition, Item, Judgement
from evidencesync.report.record_texts import value_text
from evidencesync.report.verdicts import findings_of, mark, places_text, some_text

if TYPE_CHECKING:
    from evidencesync.custody.documents import CustodyRecord

_GOOD: Final = "timestamp"
_OPEN: Final = "authority-not-checked"
_WRONG: Final = frozenset(
    {"bad-timestamp", "untrusted-authority", "missing-timestamp", "timestamp-not-recorded", "timestamp-differs"}
)


def is_checked(judgement: Judgement, item: Item, number: int) -> bool:
    """Whether a check that holds has led from an acquisition's timestamp to a root that was given."""
    return authority_text(judgement, item, number) == texts.AUTHORITY_CHECKED


def authority_text(judgement: Judgement, item: Item, number: int) -> str:
    """What was found of the authority of an acquisition's timestamp. What no finding says was not checked."""
    if judgement.state == "not-verified":
        return texts.AUTHORITY_NOT_CHECKED
    about = findings_of(judgement, item, number)
    slugs = {finding.slug for finding in about}
    if wrong := [finding for finding in about if finding.slug in _WRONG]:
        return texts.TIMESTAMP_WRONG.format(mark=mark(wrong))
    if _OPEN in slugs:
        return texts.AUTHORITY_NO_ROOT
    if _GOOD not in slugs:
        return texts.AUTHORITY_NOT_CHECKED
    by = judgement.by_vault
    return texts.AUTHORITY_CHECKED if by is None or by.documents is not None else texts.AUTHORITY_BY_VAULT


def timestamp_text(judgement: Judgement, item: Item, one: Acquisition) -> str:
    """Says when an acquisition existed, by whose word, and whether that was checked; or that it has no timestamp."""
    if not one.timestamped:
        return "none"
    stamp = _stamp(item, one.number)
    if stamp is None:
        return f"there is one, which no custody record states; {authority_text(judgement, item, one.number)}"
    when, whose = (value_text(name, stamp.details.get(name, "")) for name in ("gen_time", "authority"))
    said = f"{when}, stated by {whose} (custody record {stamp.sequence})"
    return f"{said}; {authority_text(judgement, item, one.number)}"


def timestamps_text(judgement: Judgement, items: list[Item]) -> str:
    """For page one: which acquisitions have timestamps, and whose authorities were checked."""
    said: dict[str, list[tuple[str, int]]] = {}
    for item in items:
        for one in item.acquisitions:
            if one.timestamped:
                said.setdefault(authority_text(judgement, item, one.number), []).append((item.item, one.number))
    return some_text(f"{places_text(places)}: {text}" for text, places in said.items()) or "none"


def _stamp(item: Item, number: int) -> CustodyRecord | None:
    """The last record of an acquisition's timestamp whose signature was not refused."""
    return next((record for record in reversed(list(_records(item))) if record.acquisition == number), None)


def _records(item: Item) -> Iterator[CustodyRecord]:
    steps = (step for step in item.custody if step.signature != "refused")
    return (step.record for step in steps if step.record is not None and step.record.type == "timestamped")
