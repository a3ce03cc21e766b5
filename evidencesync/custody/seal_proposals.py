"""What needs two people in an item's chain: one proposes to seal the item, another consents, and only then is it sealed.

The consent is the `sealed` record itself: it names the proposal by the number and the digest of its record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.text import encode_readable
from evidencesync.custody.trust_requests import LAPSES, PROPOSAL, PROPOSAL_SHA256
from evidencesync.custody.two_people import OPEN_FOR_NS
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import parse_utc_time, shown_time

PROPOSES: Final = "proposes"
SEALED: Final = "sealed"


class SealProposal(msgspec.Struct, frozen=True):
    """A proposal to seal the item: its record, and who has signed it. It is open before `lapses_ns`."""

    record: int
    sha256: str
    principal: str
    key: str
    lapses_ns: int


class SealProposals(msgspec.Struct):
    """The proposals of an item's chain that nobody has consented to yet. They lapse with the next acquisition."""

    pending: dict[int, SealProposal] = msgspec.field(default_factory=dict)

    def find(self, details: Mapping[str, str]) -> SealProposal | None:
        """Returns the proposal that a record names; None where it names none that is pending."""
        number = details.get(PROPOSAL, "")
        found = self.pending.get(int(number)) if number.isdecimal() and len(number) < 7 else None
        return found if found is not None and found.sha256 == details.get(PROPOSAL_SHA256) else None

    def reason_refused(self, record: CustodyRecord) -> str | None:
        """Returns why a record may not be the next; None where it may. Whether an item may be sealed without two is not asked."""
        at_ns = parse_utc_time(record.time)
        if record.type == "proposed":
            lapses = _time(record.details.get(LAPSES, ""))
            if record.details.get(PROPOSES) != SEALED or lapses is None or not at_ns < lapses <= at_ns + OPEN_FOR_NS:
                return "proposes nothing that is known, or states no time at which it lapses"
            return None
        if record.type == "withdrawn":
            return None if self.find(record.details) is not None else "withdraws no proposal that is open"
        if record.type != SEALED or PROPOSAL not in record.details:
            return None
        found, actor = self.find(record.details), record.actor
        if found is None:
            return "consents to no proposal that is open"
        if actor.principal == found.principal or actor.key == found.key:
            who = safe_text(actor.principal, 80)
            return f"is by {who}, who has proposed it in record {found.record}: another person, with another key, has to consent"
        return f"consents to what lapsed at {shown_time(found.lapses_ns)}" if at_ns >= found.lapses_ns else None

    def add(self, record: CustodyRecord) -> None:
        """Adds the next record, which may be there."""
        if record.type == "acquired":
            self.pending.clear()
        elif record.type == "proposed":
            sha256, actor = sha256_of(encode_readable(record)).hex(), record.actor
            lapses = _time(record.details[LAPSES]) or 0
            self.pending[record.sequence] = SealProposal(record.sequence, sha256, actor.principal, actor.key, lapses)
        elif record.type in ("withdrawn", SEALED) and (found := self.find(record.details)) is not None:
            del self.pending[found.record]


def _time(text: str) -> int | None:
    try:
        return parse_utc_time(text)
    except ValueError:
        return None
