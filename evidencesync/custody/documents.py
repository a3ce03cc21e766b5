"""Defines the fields of the signed documents, in the order in which they are written.

These structures are the contract of `docs/formats.md`; the JSON Schemas in `schemas/` are generated from them.
"""

# No annotations of the __future__ here: msgspec would have to compile each of these texts at every start.
from typing import Annotated, Literal

import msgspec

from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.entry import Count, Remark
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.limits import MAX_FREE_TEXT, MAX_PATH, MAX_TITLE, NONCE

TitleText = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TITLE)]
FreeText = Annotated[str, msgspec.Meta(max_length=MAX_FREE_TEXT)]
Fingerprint = Annotated[str, msgspec.Meta(pattern="^SHA256:[A-Za-z0-9+/]{43}$", max_length=50)]
"""A public key's fingerprint as `ssh-keygen -l` prints it."""
VaultId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
SessionId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
Seconds = Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,10}\.[0-9]{3,9}$", max_length=21)]
"""A duration or an offset in decimal seconds, as text: documents have no floating-point numbers."""
AcquisitionNumber = Annotated[int, msgspec.Meta(ge=1, le=9999)]
Direction = Literal["push", "pull", "local"]
DigestsTakenAt = Literal["source", "arrival"]


class Document(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of every document part: absent means omitted, unknown fields are refused."""


class Person(Document, frozen=True):
    """The person who acts and signs. `principal` is the name under which the key is trusted."""

    name: TitleText
    principal: TitleText
    key: Fingerprint
    role: TitleText | None = None
    organisation: TitleText | None = None


class Origin(Document, frozen=True):
    """The machine and path that the evidence was read from."""

    host: str
    operating_system: str
    path: str | None = None
    path_b64: str | None = None
    file_system: str | None = None
    machine_id: str | None = None
    device: dict[str, str] | None = None


class Method(Document, frozen=True):
    """The tool, its version and its settings."""

    tool: str
    version: str
    command_line: list[str]
    digests: list[str]
    filters: list[str]
    options: dict[str, str]


class SshPeer(Document, frozen=True):
    """The SSH connection, as the acquiring side saw it."""

    user: str
    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    host_key: Fingerprint
    algorithms: dict[str, str]


class Clock(Document, frozen=True):
    """The acquiring side's clock: its offset to UTC as shown to its user, and how far the peer's clock is ahead of it."""

    utc_offset: Annotated[str, msgspec.Meta(pattern=r"^[+-][0-9]{2}:[0-9]{2}$", max_length=6)]
    peer_offset_seconds: Seconds | None = None


class BroughtAgent(Document, frozen=True):
    """The program that read the source, where a pull brought it along.

    `path`: its folder there, for as long as the pull took. `sums_sha256`: of the bundle's SHA256SUMS, which lists all its files.
    `signed_by`: the key that signed the list; absent where it is unsigned.
    """

    path: Annotated[str, msgspec.Meta(max_length=MAX_PATH)]
    sums_sha256: HexDigest
    signed_by: Fingerprint | None = None


class ManifestHeader(Document, frozen=True):
    """First line of a manifest. `agent` is absent where nothing was brought to the source's machine."""

    format: Literal["evidencesync-manifest/1"]
    vault_id: VaultId
    vault_key: Fingerprint
    case: TitleText
    item: TitleText
    acquisition: AcquisitionNumber
    session: SessionId
    previous_manifest_sha256: HexDigest | None
    examiner: Person
    direction: Direction
    digests_taken_at: DigestsTakenAt
    source: Origin
    method: Method
    ssh: SshPeer | None
    started: UtcTime
    clock: Clock
    notes: list[FreeText]
    agent: BroughtAgent | None = None


class Earlier(Document, frozen=True):
    """How many contents, and bytes of them, were not read in this acquisition; `oldest`: the first one that read any of them."""

    files: Count
    bytes: Count
    oldest: AcquisitionNumber


class ManifestFooter(Document, frozen=True):
    """Last line of a manifest: `counts` by entry type, `flags` by flag (only those that occur), bytes of all contents.

    `remarks` counts what is only known at the end of the walk; absent where there is nothing to count. `earlier` counts the
    entries with `read_in`; absent without any.
    """

    counts: dict[str, Count]
    flags: dict[str, Count]
    bytes: Count
    finished: UtcTime
    remarks: dict[Remark, Count] | None = None
    earlier: Earlier | None = None


class Point(Document, frozen=True):
    """One of the three moments at which digests were taken."""

    taken: bool
    method: str
    digests: list[str]
    files: Count
    bytes: Count


class Points(Document, frozen=True):
    """The three points: at the source while it was read, on arrival as it was assembled, and from the vault's disk."""

    source: Point
    arrival: Point
    disk: Point


class Tally(Document, frozen=True):
    """How many files and bytes."""

    files: Count
    bytes: Count


class Stored(Document, frozen=True):
    """How the contents were stored in the vault."""

    written: Tally
    linked: Tally
    reflinked: Tally
    copied: Tally


class Traffic(Document, frozen=True):
    """The cost of the transfer. `wire_*` are the bytes that the receiving process saw: as an SSH server, with those of SSH."""

    wire_received_bytes: Count
    wire_sent_bytes: Count
    literal_bytes: Count
    reused_bytes: Count
    zero_bytes: Count
    interruptions: Count
    seconds: Seconds


class HostKeys(Document, frozen=True):
    """SSH host keys, each as the receiving process itself knew it: null without SSH, and where sshd holds the key.

    The manifest states what the sender saw.
    """

    receiver: Fingerprint | None
    sender: Fingerprint | None


class NotInSums(Document, frozen=True):
    """Files that a sums file cannot carry. The manifest covers them."""

    sha256sums: Count
    blake3sums: Count


class Receipt(Document, frozen=True):
    """The vault's statement of what it holds on its disk. `agent` is what the manifest states."""

    format: Literal["evidencesync-receipt/1"]
    vault_id: VaultId
    vault_key: Fingerprint
    case: TitleText
    item: TitleText
    acquisition: AcquisitionNumber
    session: SessionId
    manifest_sha256: HexDigest
    manifest_signature_sha256: HexDigest
    sha256sums_sha256: HexDigest
    blake3sums_sha256: HexDigest
    chunks_sha256: HexDigest
    acquired_sha256: HexDigest
    acquired_sequence: Count
    previous_receipt_sha256: HexDigest | None
    points: Points
    stored: Stored
    transfer: Traffic
    host_keys: HostKeys
    lookup: Literal["item", "case", "vault"]
    not_in_sums: NotInSums
    received_from: str
    finished: UtcTime
    agent: BroughtAgent | None = None


RecordType = Literal[
    "made",
    "trust-changed",
    "heads",
    "key-changed",
    "acquired",
    "received",
    "verified",
    "handed-over",
    "accepted",
    "exported",
    "restored",
    "noted",
    "corrected",
    "timestamped",
    "sealed",
    "proposed",
    "withdrawn",
]


class CustodyRecord(Document, frozen=True):
    """One numbered, signed statement about an item, or (without case and item) about the vault itself."""

    format: Literal["evidencesync-custody/1"]
    vault_id: VaultId
    sequence: Annotated[int, msgspec.Meta(ge=1, le=999_999)]
    type: RecordType
    time: UtcTime
    case: TitleText | None
    item: TitleText | None
    actor: Person
    previous_sha256: HexDigest | None
    details: dict[str, str]
    acquisition: AcquisitionNumber | None = None
    manifest_sha256: HexDigest | None = None
    receipt_sha256: HexDigest | None = None


MANIFEST_NAMESPACE = "manifest@evidencesync"
RECEIPT_NAMESPACE = "receipt@evidencesync"
CUSTODY_NAMESPACE = "custody@evidencesync"
SESSION_NAMESPACE = "session@evidencesync"
VERDICT_NAMESPACE = "verdict@evidencesync"
Nonce = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$", min_length=2 * NONCE, max_length=2 * NONCE)]


class ReadingClaim(Document, frozen=True):
    """The document that is signed before a vault is read, or its trust changed, from afar (namespace `session@evidencesync`).

    It names no item, and says what it is for: nobody can take it for a SessionClaim.
    """

    purpose: Literal["read", "trust"]
    nonce: Nonce
    vault_id: VaultId
    vault_key: Fingerprint
    session: SessionId
    key: Fingerprint


class SessionClaim(Document, frozen=True):
    """The document that an examiner signs before any data is sent (namespace `session@evidencesync`).

    It binds the vault's fresh nonce to this vault, item and session, so that the signature cannot be replayed elsewhere.
    """

    nonce: Nonce
    vault_id: VaultId
    vault_key: Fingerprint
    case: TitleText
    item: TitleText
    session: SessionId
    key: Fingerprint
