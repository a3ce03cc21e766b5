"""The audit report as data, in the order of reading. `report --format json` writes exactly this.

Whatever is quoted from evidence or from the vault's documents is as it stands there: safe display is for the views.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from evidencesync.custody.documents import CustodyRecord, ManifestFooter, ManifestHeader, Receipt
from evidencesync.evidence.capture import Capture
from evidencesync.evidence.entry import Entry, ReadError
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.verify.findings import ByVault, Checked, Finding, Head

State = Literal["pass", "fail", "incomplete", "not-verified"]
SignatureState = Literal["good", "refused", "not-checked"]
DifferenceKind = Literal["added", "removed", "moved", "content", "kind", "unread"]
TrustAction = Literal["made", "added", "changed", "retired", "revoked", "key-begun", "key-ended"]
RangeKind = Literal["data", "changed", "zero", "unreadable"]

REPORT_FORMAT: Final = "evidencesync-report/1"


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every part: each field is always there, and null where there is nothing to say."""


class Judgement(Part, frozen=True):
    """What may be said of the evidence, and on what grounds.

    `source` tells whether it was checked for this report, or a verdict from an earlier check was handed in.
    `state` is `not-verified` where such a verdict is not about what this report shows: `reason` says why.
    `by_vault`: of a vault on another machine, which has read its evidence itself; null where it was read by who checked.
    """

    state: State
    source: Literal["checked", "verdict-file"]
    reason: str | None
    exit_code: int
    checked_at: UtcTime
    age_seconds: int
    trust: Literal["vault", "outside"]
    digests: list[str]
    checked: Checked
    heads: list[Head]
    findings: list[Finding]
    by_vault: ByVault | None


class VaultFacts(Part, frozen=True):
    """Which vault it is."""

    vault_id: str
    name: str
    key: str
    head: Head | None


class NamedSize(Part, frozen=True):
    """How many files, and bytes, of a type."""

    name: str
    files: int
    bytes: int


class PathPair(Part, frozen=True):
    """A path: one of both is set, `path_b64` where the bytes are not clean UTF-8."""

    path: str | None
    path_b64: str | None


class UnreadRange(Part, frozen=True):
    """A range of a file that could not be read, and what stands in its place."""

    file: PathPair
    range: ReadError


class FlaggedEntry(Part, frozen=True):
    """An entry that could not be read whole, or changed meanwhile. `kept`: the vault has content of it."""

    file: PathPair
    type: str
    flags: list[str]
    kept: bool


class CapturedFile(Part, frozen=True):
    """A content that was read once, out of a pipe, and how it ended."""

    file: PathPair
    size: int
    capture: Capture


class Contents(Part, frozen=True):
    """What one pass over a manifest found. Lists are bounded; counts are of all.

    `manifest_sha256` is of the bytes that were read for this report. `filtered` counts by type what a filter left out: those are
    no flagged entries. `problem` says why the pass ended early.
    """

    manifest_sha256: str | None
    entries: int
    types: list[NamedSize]
    flagged: list[FlaggedEntry]
    flagged_count: int
    filtered: dict[str, int]
    unread: list[UnreadRange]
    unread_count: int
    unread_bytes: int
    problem: str | None
    captured: list[CapturedFile] = []


class MapRange(Part, frozen=True):
    """Some bytes of a file, and what they are."""

    kind: RangeKind
    offset: int
    length: int


class FileMap(Part, frozen=True):
    """Where in a large file there is what. `compared_with`: the acquisition that `changed` refers to."""

    file: PathPair
    size: int
    compared_with: int | None
    ranges: list[MapRange]
    totals: list[NamedSize]


class WholeCopy(Part, frozen=True):
    """A file that a check found damaged; another acquisition of the item has its content whole, under the path `there`."""

    file: PathPair
    acquisition: int
    there: PathPair


class Acquisition(Part, frozen=True):
    """One acquisition, as its documents state it. `problem` where they cannot be read."""

    number: int
    fingerprint: str | None
    header: ManifestHeader | None
    footer: ManifestFooter | None
    receipt: Receipt | None
    contents: Contents
    maps: list[FileMap]
    whole_copies: list[WholeCopy]
    timestamped: bool
    problem: str | None


class CustodyStep(Part, frozen=True):
    """One custody record, and what is known of its signature."""

    sequence: int
    record: CustodyRecord | None
    sha256: str | None
    signature: SignatureState
    signature_detail: str


class Difference(Part, frozen=True):
    """One path that two acquisitions do not have alike. `to`: where a content was moved."""

    file: PathPair
    kind: DifferenceKind
    to: PathPair | None


class Differences(Part, frozen=True):
    """An acquisition against the one before it, by the rule of `diff`. Counts are of all, `listed` has the first of each kind.

    Only counted is what differs in other attributes alone (`metadata`), what a filter left out of one (`filtered`), and what
    neither has read whole (`not-read`).
    """

    earlier: int
    later: int
    counts: dict[str, int]
    listed: list[Difference]
    problem: str | None


class Detail(Part, frozen=True):
    """What a custody record states about an item, as it was corrected since: the record's number."""

    name: str
    value: str
    record: int


class HandOver(Part, frozen=True):
    """A hand-over that nobody has accepted yet: its record's number, its signer, and the principal that it names."""

    record: int
    principal: str
    to: str


class Item(Part, frozen=True):
    """One exhibit. `held_by` is the principal who accepted it last; null where it was never handed over."""

    case: str
    item: str
    folder: str
    head: Head | None
    known: list[Detail]
    held_by: str | None
    open_hand_over: HandOver | None
    custody: list[CustodyStep]
    acquisitions: list[Acquisition]
    differences: list[Differences]
    problem: str | None


class TrustStep(Part, frozen=True):
    """A record of the vault's own chain about a key. `made`: it was trusted from the vault's making on.

    `key-begun`: it became the vault's own key, by a change of that; `key-ended`: by such a change the vault has given it up.
    """

    record: int
    at: UtcTime
    action: TrustAction


class Signer(Part, frozen=True):
    """One key that is trusted, or was.

    What it may do (`may`), in which cases (patterns; null: in every case) and until which day (UTC, included), is the vault's own
    rule. `may` is null for the vault's own key, where it cannot be told, and where nobody
    has said it: then all may be done.
    """

    principals: list[str]
    key: str
    algorithm: str
    namespaces: list[str]
    valid_after: UtcTime | None
    valid_before: UtcTime | None
    revoked: bool
    may: list[str] | None
    cases: list[str] | None
    until: str | None
    changes: list[TrustStep]


class Trust(Part, frozen=True):
    """Who may sign, by the vault's own lists, or by those from outside.

    `roles_problem`: why it cannot be told what the keys may do, and since when.
    """

    source: Literal["vault", "outside"]
    signers: list[Signer]
    problem: str | None
    roles_problem: str | None


class FileList(Part, frozen=True):
    """All entries of one manifest, as they stand there. Left out are `continued` lines, on which a very long list goes on."""

    item: str
    acquisition: int
    entries: list[Entry]
    continued: int


class Report(Part, frozen=True):
    """The audit report of a case, or of a part of it."""

    format: Literal["evidencesync-report/1"]
    made_at: UtcTime
    tool: str
    version: str
    case: str
    item: str | None
    acquisition: int | None
    judgement: Judgement
    vault: VaultFacts
    items: list[Item]
    trust: Trust
    files: list[FileList]
