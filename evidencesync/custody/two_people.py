"""What needs two people in a vault: one proposes it, by a signed request, and it has no effect before another has consented.

The rule is the vault's own, stated in its own chain: by the records up to now it is known what needs two people, which proposals
are open, and whether a change had both. The vault asks here before it changes anything, and `verify` of all that was changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.rule_of_two import TWO_PERSON, NeedsTwo, needs_two, parse_rule
from evidencesync.custody.trust_requests import (
    LAPSES,
    PROPOSAL,
    PROPOSAL_SHA256,
    PROPOSED,
    WITHDRAWN,
    ChangeOfTrust,
    SignedRequest,
    TrustRequest,
)
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import format_utc_time, parse_utc_time, shown_time

SEE_PROPOSALS: Final = "What is open, is listed by: evidencesync trust list VAULT"
OPEN_FOR_NS: Final = 7 * 86_400 * 1_000_000_000
"""For how long a proposal is open."""


class Proposal(msgspec.Struct, frozen=True):
    """A change of trust that somebody has asked for, and nobody has consented to yet. It is open before `lapses_ns`."""

    record: int
    sha256: str
    request: TrustRequest
    lapses_ns: int

    @property
    def change(self) -> ChangeOfTrust:
        """What is proposed."""
        return self.request.change

    def reason_refused(self, by: str, key: str, at_ns: int) -> str | None:
        """Returns why a consent by a principal with a key has no effect at a time; None where it has."""
        who = self.request.actor
        if by == who.principal or key == who.key:
            return f"{safe_text(by, 80)} has proposed it, and another person, with another key, has to consent"
        if at_ns >= self.lapses_ns:
            return f"the proposal in record {self.record} lapsed at {shown_time(self.lapses_ns)}"
        return None


class Proposals(msgspec.Struct):
    """What the records of a vault's own chain say, so far, of what needs two people, and of the proposals that are open.

    A proposal lapses at the time that its record states, and as soon as the lists of trust are changed: it was about them as
    they were. `stated`: the details in which a record states the lists.
    """

    stated: frozenset[str]
    rule: tuple[NeedsTwo, ...] = ()
    pending: dict[int, Proposal] = msgspec.field(default_factory=dict)
    _lists: dict[str, str] = msgspec.field(default_factory=dict)

    def is_open(self, at_ns: int) -> list[Proposal]:
        """Returns the proposals that are open at a time."""
        return [one for one in self.pending.values() if at_ns < one.lapses_ns]

    def find(self, details: Mapping[str, str]) -> Proposal | None:
        """Returns the open proposal that a request names, by the number and the digest of its record; None if there is none."""
        number, sha256 = details.get(PROPOSAL, ""), details.get(PROPOSAL_SHA256)
        found = self.pending.get(int(number)) if number.isdecimal() and len(number) < 7 else None
        return found if found is not None and found.sha256 == sha256 else None

    def add(self, record: CustodyRecord, sha256: str, at_ns: int, signed: SignedRequest | None) -> str | None:
        """Adds the next record about trust; returns why it may not be there, and None where it may.

        `signed`: the request that it keeps, if it is a good one.  Raises MalformedDocumentError for a rule that is none.
        """
        before = self._lists
        self._lists = before | {name: text for name, text in record.details.items() if name in self.stated}
        reason = (
            None if record.type != "trust-changed" else self._reason_refused(record, at_ns, signed, changes=self._lists != before)
        )
        if self._lists != before:
            self.pending.clear()
        if record.details.get("action") == PROPOSED and signed is not None and reason is None:
            self.pending[record.sequence] = Proposal(
                record.sequence, sha256, signed.request, parse_utc_time(record.details[LAPSES])
            )
        if TWO_PERSON in record.details:
            self.rule = parse_rule(record.details[TWO_PERSON])
        return reason

    def _reason_refused(self, record: CustodyRecord, at_ns: int, signed: SignedRequest | None, *, changes: bool) -> str | None:
        action, details = record.details.get("action", ""), record.details
        if action == PROPOSED:
            if signed is None or changes or not _is_in_time(details.get(LAPSES, ""), at_ns):
                return "it is no proposal: nobody has signed it, or it has an effect, or no time at which it lapses"
            return None
        if action == WITHDRAWN:
            found = None if signed is None else self.find(signed.request.details)
            if found is None or changes:
                return "it withdraws no proposal that is open"
            del self.pending[found.record]
            return None
        if PROPOSAL in details:
            return self._reason_without_consent(record, at_ns, signed)
        if changes and needs_two(self.rule, action):
            return f"the vault demands two people for this ({','.join(self.rule)}), and nobody has consented"
        return None

    def _reason_without_consent(self, record: CustodyRecord, at_ns: int, signed: SignedRequest | None) -> str | None:
        found = None if signed is None or signed.request.action != "consented" else self.find(signed.request.details)
        if found is None or signed is None:
            return "it is said to have been consented to, and no such proposal was open"
        del self.pending[found.record]
        proposed, said = found.request, {**record.details}
        if any(said.get(name) != text for name, text in {"action": proposed.action, **proposed.details}.items()):
            return f"it is not what record {found.record} proposes"
        actor = signed.request.actor
        return found.reason_refused(actor.principal, actor.key, at_ns)


def lapse_text(at_ns: int) -> str:
    """When a proposal lapses that is made now, as its record states it."""
    return format_utc_time(at_ns + OPEN_FOR_NS)


def _is_in_time(text: str, at_ns: int) -> bool:
    try:
        return at_ns < parse_utc_time(text) <= at_ns + OPEN_FOR_NS
    except ValueError:
        return False
