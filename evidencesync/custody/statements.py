"""Checks what an item's records state about each other: hand-overs, acceptances, corrections, manifests.

A hand-over is two records by two signers: one names the recipient, the other accepts. They may be made days apart and on two
machines. The links of a chain can be sound and its hand-overs wrong: so they are checked here, and not in `custody.chain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from evidencesync.custody.chain import ChainChecker, ChainFacts, ChainSubject
from evidencesync.custody.details import IN_PLACE_OF, OUTSIDE, DetailsFold, KnownDetail, record_number
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.principals import check_receiver
from evidencesync.custody.seal_proposals import SealProposals
from evidencesync.custody.trust import TrustLists, who_is_meant
from evidencesync.errors import EvidenceSyncError, NotAllowedError, NotThereError, UntrustedSignerError
from evidencesync.evidence.display import safe_text, shell_text

SEE_CHAIN: Final = "See what there is: evidencesync custody show VAULT --case CASE --item ITEM"
_COPIED: Final = ("exported", "restored")  # records whose details name the manifest of what was copied
ViolationSlug = Literal["no-hand-over", "wrong-recipient", "wrong-reference", "not-allowed"]


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a record is not allowed at its place in the chain, although its link is sound."""

    record: int
    slug: ViolationSlug
    text: str

    def error(self) -> EvidenceSyncError:
        """Returns the error for a record that was to be appended."""
        if self.slug == "wrong-recipient":
            return UntrustedSignerError(
                self.text, hint="One person hands over, and another accepts, each with a key of their own."
            )
        if self.slug == "not-allowed":
            return NotAllowedError(self.text, hint=SEE_CHAIN)
        return NotThereError(self.text, hint=SEE_CHAIN)


@dataclass(frozen=True, slots=True)
class OpenHandOver:
    """A hand-over that is not accepted yet: its record's number, its signer, and the principal that it names."""

    record: int
    principal: str
    key: str
    to: str


@dataclass(slots=True)
class Statements:
    """Follows the hand-overs of an item and the documents of its acquisitions; records are added in order.

    At most one hand-over is open (`pending`): a further one replaces one that was not accepted. `held_by` is the principal that
    accepted last; None before the first acceptance.
    """

    pending: OpenHandOver | None = None
    held_by: str | None = None
    seals: SealProposals = field(default_factory=SealProposals)
    _manifests: dict[int, str] = field(default_factory=dict)
    _receipts: dict[int, str] = field(default_factory=dict)

    def find_violation(self, record: CustodyRecord) -> Violation | None:
        """Returns why a record may not be the next; None where it may.

        1. A hand-over names another principal than its signer, and is in nobody's place but the holder's.  2. An acceptance
        names the open hand-over, and is signed by the principal that the hand-over names, with another key than that of the
        hand-over.  3. A correction names an earlier record.  4. What a record about an acquisition says of its manifest and
        receipt is what the chain says of them.  5. What is said of a proposal to seal the item is about one that is open, and a
        consent is by another person.
        """
        if self._names_other_documents(record):  # 4
            text = f"{_what(record)} names another manifest or receipt than acquisition {record.acquisition} has"
            return Violation(record.sequence, "wrong-reference", text)
        if (reason := self.seals.reason_refused(record)) is not None:  # 5
            slug: ViolationSlug = "not-allowed" if record.type == "sealed" else "wrong-reference"
            return Violation(record.sequence, slug, f"{_what(record)} {reason}")
        if record.type == "handed-over":  # 1
            to = record.details.get("to", "")
            if not to or to == record.actor.principal:
                text = f"{_what(record)} hands over to its own signer, {safe_text(to, 80)}"
                return Violation(record.sequence, "wrong-recipient", text if to else f"{_what(record)} hands over to nobody")
            if record.details.get(IN_PLACE_OF, self.held_by) != self.held_by:
                holder = safe_text(self.held_by, 80) if self.held_by is not None else "nobody"
                text = f"{_what(record)} is in the place of {safe_text(record.details[IN_PLACE_OF], 80)}; {holder} holds the item"
                return Violation(record.sequence, "wrong-reference", text)
        elif record.type == "accepted":  # 2
            return self._find_acceptance_violation(record)
        elif record.type == "corrected":  # 3
            number = record_number(record)
            if number is None or number >= record.sequence:
                return Violation(record.sequence, "wrong-reference", f"{_what(record)} corrects no record before it")
        return None

    def add(self, record: CustodyRecord) -> Violation | None:
        """Adds the next record. A record with a violation changes nothing; the violation is returned."""
        violation = self.find_violation(record)
        if violation is not None:
            return violation
        if record.type == "handed-over":
            self.pending = OpenHandOver(record.sequence, record.actor.principal, record.actor.key, record.details["to"])
        elif record.type == "accepted":
            self.pending, self.held_by = None, record.actor.principal
        self.seals.add(record)
        self._learn_documents(record)
        return None

    def passed_over(self, record: CustodyRecord) -> str | None:
        """Returns who holds the item, where somebody else hands it over and does not say in whose place; else None.

        That is no violation: the holder may be ill, and earlier versions had no word for it. But people have to see it.
        """
        if record.type != "handed-over" or self.held_by in (record.actor.principal, record.details.get(IN_PLACE_OF)):
            return None
        return self.held_by

    def _learn_documents(self, record: CustodyRecord) -> None:
        if record.acquisition is None:
            return
        if record.type == "acquired" and record.manifest_sha256 is not None:
            self._manifests[record.acquisition] = record.manifest_sha256
        elif record.type == "received" and record.receipt_sha256 is not None:
            self._receipts[record.acquisition] = record.receipt_sha256

    def _names_other_documents(self, record: CustodyRecord) -> bool:
        if record.acquisition is None or record.type in ("acquired", "received"):
            return False  # these two are judged with the chain
        stated = {record.manifest_sha256, record.details.get("manifest_sha256") if record.type in _COPIED else None}
        manifest, receipt = self._manifests.get(record.acquisition), self._receipts.get(record.acquisition)
        return (manifest is not None and not stated <= {manifest, None}) or (
            receipt is not None and record.receipt_sha256 not in (receipt, None)
        )

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
    """Checks that a hand-over names a trusted principal, unless it states an outside recipient, and not the vault.

    Raises InvalidNameError, UntrustedSignerError.
    """
    to = details.get("to", "")
    check_receiver(to, outside=details.get(OUTSIDE) == "yes")
    if details.get(OUTSIDE) != "yes" and not trust.knows(to, CUSTODY_NAMESPACE, at_ns):
        signers = (one for one in trust.signers.signers for name in one.principals if trust.knows(name, CUSTODY_NAMESPACE, at_ns))
        known = who_is_meant(to, signers, "--to")
        raise UntrustedSignerError(
            f"the vault trusts no key of '{safe_text(to, 80)}', so nobody could accept this hand-over",
            hint=f"{known}. A new one: evidencesync trust add VAULT KEY.pub --principal {shell_text(to)}. For a court, or others "
            "without a key, add --outside.",
        )


def _what(record: CustodyRecord) -> str:
    return f"custody record {record.sequence} ({record.type})"


@dataclass(slots=True)
class ItemHistory:
    """Reads an item's whole chain: checks links, order, hand-overs and corrections, and collects the item's details."""

    subject: ChainSubject
    violations: list[Violation] = field(default_factory=list)
    statements: Statements = field(default_factory=Statements)
    _checker: ChainChecker = field(init=False)
    _details: DetailsFold = field(default_factory=DetailsFold)

    def __post_init__(self) -> None:
        self._checker = ChainChecker(self.subject)

    def add(self, document: bytes) -> CustodyRecord:
        """Adds the next record, as its exact bytes. Raises ChainError; a violation is kept in `violations`."""
        record = self._checker.add(document)
        violation = self.statements.add(record)
        if violation is not None:
            self.violations.append(violation)
        self._details.add(record)
        return record

    def facts(self) -> ChainFacts:
        """Returns length, head, acquisitions, and whether the item is sealed."""
        return self._checker.facts()

    def known(self) -> list[KnownDetail]:
        """Returns the item's current details."""
        return self._details.known()
