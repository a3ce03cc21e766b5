"""What an item's records say to one another: who handed over to whom, who accepted, and what is corrected.

A hand-over is two records, by two signers: one says to whom, the other accepts. They may be days and machines apart. A chain
can be whole and its hand-overs wrong, so that is looked at here, and not in `custody.chain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from evidencesync.custody.chain import ChainChecker, ChainFacts, ChainSubject
from evidencesync.custody.details import OUTSIDE, DetailsFold, KnownDetail, record_number
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.trust import TrustLists
from evidencesync.errors import EvidenceSyncError, NotThereError, UntrustedSignerError
from evidencesync.evidence.display import safe_text

ViolationSlug = Literal["no-hand-over", "wrong-recipient", "wrong-reference"]


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a record may not stand where it stands, although it is well linked."""

    record: int
    slug: ViolationSlug
    text: str

    def error(self) -> EvidenceSyncError:
        """As the refusal to append such a record."""
        if self.slug == "wrong-recipient":
            return UntrustedSignerError(self.text, hint="A hand-over is accepted by the one whom it names, with his own key.")
        hint = "See what there is: evidencesync custody show VAULT --case CASE --item ITEM"
        return NotThereError(self.text, hint=hint)


@dataclass(frozen=True, slots=True)
class OpenHandOver:
    """A hand-over that nobody has accepted yet: its record's number, who signed it, and the principal whom it names."""

    record: int
    principal: str
    key: str
    to: str


@dataclass(slots=True)
class Statements:
    """Takes an item's records in order.

    One hand-over is open (`pending`) at a time: a further one takes the place of one that was not accepted. `held_by` is the
    principal who accepted last; None before the first acceptance.
    """

    pending: OpenHandOver | None = None
    held_by: str | None = None

    def find_violation(self, record: CustodyRecord) -> Violation | None:
        """Why a record may not come next; None where it may.

        1. A hand-over names somebody else than its signer.  2. An acceptance names the hand-over that is open, and is
        signed by the principal whom that names, with another key than it was signed with.  3. A correction names a record
        before it.
        """
        if record.type == "handed-over":  # 1
            to = record.details.get("to", "")
            if not to or to == record.actor.principal:
                return Violation(record.sequence, "wrong-recipient", f"{_what(record)} hands over to nobody else")
        elif record.type == "accepted":  # 2
            return self._find_acceptance_violation(record)
        elif record.type == "corrected":  # 3
            number = record_number(record)
            if number is None or number >= record.sequence:
                return Violation(record.sequence, "wrong-reference", f"{_what(record)} corrects no record before it")
        return None

    def add(self, record: CustodyRecord) -> Violation | None:
        """The next record. One that may not stand there changes nothing, and is objected to."""
        violation = self.find_violation(record)
        if violation is not None:
            return violation
        if record.type == "handed-over":
            self.pending = OpenHandOver(record.sequence, record.actor.principal, record.actor.key, record.details["to"])
        elif record.type == "accepted":
            self.pending, self.held_by = None, record.actor.principal
        return None

    def _find_acceptance_violation(self, record: CustodyRecord) -> Violation | None:
        number, handed = record_number(record), self.pending
        if handed is None or number != handed.record:
            text = f"{_what(record)} accepts a hand-over that is not open"
            return Violation(record.sequence, "no-hand-over", text)
        if record.actor.key == handed.key:
            text = f"{_what(record)} is signed with the key that handed over in record {handed.record}"
            return Violation(record.sequence, "wrong-recipient", text)
        if record.actor.principal != handed.to:
            who, to = safe_text(record.actor.principal, 80), safe_text(handed.to, 80)
            text = f"{_what(record)} is by {who}; record {handed.record} hands over to {to}"
            return Violation(record.sequence, "wrong-recipient", text)
        return None


def check_recipient(details: Mapping[str, str], trust: TrustLists, at_ns: int) -> None:
    """That a hand-over names somebody who can accept it, unless it says that he is outside. Raises UntrustedSignerError."""
    to = details.get("to", "")
    if details.get(OUTSIDE) != "yes" and not trust.knows(to, CUSTODY_NAMESPACE, at_ns):
        raise UntrustedSignerError(
            f"the vault trusts no key of {safe_text(to, 80)}, so nobody could accept this hand-over",
            hint="`evidencesync trust list VAULT` shows whom it trusts. For a court, or others without a key, add --outside.",
        )


def _what(record: CustodyRecord) -> str:
    return f"custody record {record.sequence} ({record.type})"


@dataclass(slots=True)
class ItemHistory:
    """An item's whole chain as it is read: links and order, hand-overs and corrections, and what is known of the item."""

    subject: ChainSubject
    violations: list[Violation] = field(default_factory=list)
    statements: Statements = field(default_factory=Statements)
    _checker: ChainChecker = field(init=False)
    _details: DetailsFold = field(default_factory=DetailsFold)

    def __post_init__(self) -> None:
        self._checker = ChainChecker(self.subject)

    def add(self, document: bytes) -> CustodyRecord:
        """The next record, as its exact bytes. Raises ChainError; an violation is kept."""
        record = self._checker.add(document)
        violation = self.statements.add(record)
        if violation is not None:
            self.violations.append(violation)
        self._details.add(record)
        return record

    def facts(self) -> ChainFacts:
        """Length, head, acquisitions, and whether the item is sealed."""
        return self._checker.facts()

    def known(self) -> list[KnownDetail]:
        """What is known of the item now."""
        return self._details.known()
