"""What all checks of one run share, and how far they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evidencesync.verify.chain_times import Stopwatch
from evidencesync.verify.findings import Counts, Head, Reporter
from evidencesync.verify.signatures import SignatureJudge

if TYPE_CHECKING:
    from evidencesync.custody.timestamp import Roots


@dataclass(slots=True)
class VerifyProgress:
    """Files and bytes that were read, of those that the receipts name (a hint for a display, nothing more)."""

    files: int = 0
    bytes: int = 0
    total_files: int = 0
    total_bytes: int = 0
    place: str = ""
    """The item and acquisition that is being checked; safe to show."""


@dataclass(frozen=True, slots=True)
class VaultIdentity:
    """Which vault this is: its id, and the fingerprint of the key that signs receipts and records."""

    vault_id: str
    key: str


@dataclass(frozen=True, slots=True)
class Statement:
    """That a record of an item's chain was its last: its digest, when the vault said so (ns), and in which record of its own."""

    sha256: str
    at_ns: int
    number: int


@dataclass(slots=True)
class Context:
    """One run: who the vault is, who is trusted, what was counted. `report` is about the vault's root."""

    identity: VaultIdentity
    judge: SignatureJudge
    report: Reporter
    all_digests: bool
    progress: VerifyProgress
    counts: Counts = field(default_factory=Counts)
    since_begun: Stopwatch = field(default_factory=Stopwatch)
    """What has passed since the judge's `now_ns`: a run can take days, and records that come meanwhile are not of the future."""
    heads: list[Head] = field(default_factory=list)
    digests: dict[tuple[str | None, str | None], dict[int, str]] = field(default_factory=dict)
    """All records of each chain, by exact case and item number (the vault's own: by none): number and digest."""
    stated_heads: dict[tuple[str, str], dict[int, str]] = field(default_factory=dict)
    """All that the vault's own chain ever said of items' chains, by case and item folder: number and digest of a record."""
    stated_times: dict[tuple[str, str], dict[int, Statement]] = field(default_factory=dict)
    """For each number of a record that the vault ever signed for as the last: where it first did."""
    times_known: bool = True
    """Whether all of the vault's own chain could be read, which says when others' records were there."""
    unread: dict[tuple[str | None, str | None], frozenset[int]] = field(default_factory=dict)
    """The numbers of records that are there and could not be read, by chain as in `digests`; only where there are any."""
    roots: Roots | None = None
    """The authorities whose timestamps are believed; None where nobody gave any."""
    require_timestamp: bool = False
    """Whether every manifest must have a timestamp by one of them."""
    contents: bool = True
    """Whether evidence is read; else only the documents about it."""
    manifests: dict[int, str] = field(default_factory=dict)
    """SHA-256 of the manifests that were read, by acquisition."""
    wanted_head: str | None = None
    """A record that must be in one of the chains, by its digest; `head_found` once it was found."""
    head_found: bool = False

    def record_unread(self, subject: tuple[str | None, str | None], numbers: set[int]) -> None:
        """Keeps what could not be read of a chain, so that nobody calls it gone."""
        if numbers:
            self.unread[subject] = frozenset(numbers)
