"""Defines the data that all checks of one run share, and its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evidencesync.custody.vault_keys import VaultKeys
from evidencesync.verify.chain_times import Stopwatch
from evidencesync.verify.findings import Counts, Head, Reporter
from evidencesync.verify.known_keys import KnownKeys
from evidencesync.verify.signatures import SignatureJudge

if TYPE_CHECKING:
    from evidencesync.custody.timestamp import Roots


class UnwantedError(Exception):
    """Nobody waits for the verdict any more. It ends a check like an interrupt, and is never a finding."""


@dataclass(slots=True)
class VerifyProgress:
    """Files and bytes that were read, and of how many: the totals are 0 until they are known. For a display only."""

    files: int = 0
    bytes: int = 0
    total_files: int = 0
    total_bytes: int = 0
    hole_bytes: int = 0
    """Of `bytes`, those of holes, which are hashed and not read."""
    total_hole_bytes: int = 0
    place: str = ""
    """The item and acquisition that is being checked; safe to display."""
    is_wanted: Callable[[], bool] = lambda: True
    """Whether somebody still waits for the verdict; asked often, and so quick."""

    def require_wanted(self) -> None:
        """Raises UnwantedError where nobody waits for the verdict any more."""
        if not self.is_wanted():
            raise UnwantedError


@dataclass(frozen=True, slots=True)
class VaultIdentity:
    """The vault's id, and the fingerprint of its first key."""

    vault_id: str
    key: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement of the vault about an item's head: the record's digest, the time (ns), and the number of the stating record."""

    sha256: str
    at_ns: int
    number: int


@dataclass(slots=True)
class Context:
    """The shared data of one run: identity, trust, counts. `report` is about the vault's root."""

    identity: VaultIdentity
    """`key` is the vault's first one: what became of it says `keys`."""
    judge: SignatureJudge
    report: Reporter
    all_digests: bool
    progress: VerifyProgress
    counts: Counts = field(default_factory=Counts)
    keys: KnownKeys = field(init=False)
    since_begun: Stopwatch = field(default_factory=Stopwatch)
    """The time since the judge's `now_ns`: a run can take days, and records that are added meanwhile are not of the future."""
    heads: list[Head] = field(default_factory=list)
    digests: dict[tuple[str | None, str | None], dict[int, str]] = field(default_factory=dict)
    """All records of each chain, by exact case and item number (the vault's own: by none): number and digest."""
    stated_heads: dict[tuple[str, str], dict[int, str]] = field(default_factory=dict)
    """All heads of items' chains that the vault's own chain states, by case and item folder: number and digest."""
    stated_at_first: frozenset[tuple[str, str]] = frozenset()
    """Whose heads it stated when it was first read. What came later, while it was read on, no listing needs to have."""
    stated_times: dict[tuple[str, str], dict[int, Statement]] = field(default_factory=dict)
    """The first statement of each head, by the record's number."""
    remembered: dict[tuple[str | None, str | None], int] = field(default_factory=dict)
    """The last record of each chain that this machine has seen, by case and item folder (the vault's own: by none)."""
    times_known: bool = True
    """Whether all of the vault's own chain could be read, which dates the records of items."""
    unread: dict[tuple[str | None, str | None], frozenset[int]] = field(default_factory=dict)
    """The numbers of records that are there and could not be read, by chain as in `digests`; only where there are any."""
    damaged: dict[tuple[str | None, str | None], frozenset[int]] = field(default_factory=dict)
    """The same of records that are damaged."""
    roots: Roots | None = None
    """The trusted authorities; None where none were given."""
    require_timestamp: bool = False
    """Whether every manifest must have a timestamp by one of them."""
    contents: bool = True
    """Whether evidence is read; else only the documents about it."""
    not_fetched: frozenset[str] = frozenset()
    """What of an acquisition is not there because only documents of a far vault were fetched."""
    manifests: dict[int, str] = field(default_factory=dict)
    """SHA-256 of the manifests that were read, by acquisition."""
    wanted_head: str | None = None
    """The digest of a record that must be in one of the chains; `head_found` is set when it was found."""
    head_found: bool = False

    def __post_init__(self) -> None:
        self.keys = self.judge.keys = KnownKeys(VaultKeys(self.identity.key))

    def reaching(self, case: str | None = None, item: str | None = None) -> int:
        """Returns the number of the last record that a chain is known to have had; 0 where nothing is known."""
        stated = self.stated_heads.get((case, item), {}) if case is not None and item is not None else {}
        return max([self.remembered.get((case, item), 0), *stated])

    def record_unread(self, subject: tuple[str | None, str | None], unread: set[int], damaged: set[int]) -> None:
        """Records which of a chain's records could not be read, or are damaged: they are neither missing nor others."""
        if unread:
            self.unread[subject] = frozenset(unread)
        if damaged:
            self.damaged[subject] = frozenset(damaged)
