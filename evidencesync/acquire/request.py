"""Defines the request for a push or a pull, and its outcome."""

from __future__ import annotations

import msgspec

from evidencesync.acquire.reading import SourceTally
from evidencesync.custody.consistency import KnownChain
from evidencesync.custody.documents import BroughtAgent, Stored
from evidencesync.custody.sshsig import SigningKey
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.localstate.heads import RememberedHead
from evidencesync.protocol.data_frames import Compress
from evidencesync.protocol.messages import Alike, Changes
from evidencesync.source.filters import FilterRules
from evidencesync.source.salvage import OnReadError


class PushRequest(msgspec.Struct, frozen=True):
    """One acquisition to be made. `vault` is the path as the other end knows it; `command_line` goes into the manifest.

    `details`: facts about case and item, for the `acquired` record. `retries`: reconnection attempts in a row.
    `on_read_error`: what to do with bytes that cannot be read. `retries_changed`: how often a file that changed while it was read
    is read again; None: as often as is cheap. `allow_empty`: publish even if nothing is there or left. `skip_unchanged`: publish
    nothing if no entry differs from the previous acquisition (UnchangedSource is raised then). `quick`: do not read files that
    look as they did (see `EarlierFiles`). `least_bytes`: the room that the source needs where the vault has nothing of it; 0: not
    known. `file_system`: see `SourceRoot`. `described`: what the source is called where it has no path. `began`: when its reading
    began, where that was in an earlier session. `agent`: what was brought to the source's machine to read it.
    """

    source: bytes
    vault: bytes
    name: ItemName
    examiner: str
    signer: SigningKey
    session: str
    rules: FilterRules
    command_line: list[str]
    organisation: str | None = None
    notes: list[str] = msgspec.field(default_factory=list)
    details: dict[str, str] = msgspec.field(default_factory=dict)
    read_back: bool = True
    compress: Compress = "auto"
    limit_rate: int | None = None
    timeout_seconds: float = 60.0
    retries: int = 0
    on_read_error: OnReadError = "zero"
    retries_changed: int | None = None
    allow_empty: bool = False
    skip_unchanged: bool = False
    quick: bool = False
    least_bytes: int = 0
    file_system: int | None = None
    described: str = ""
    began: UtcTime | None = None
    agent: BroughtAgent | None = None


class Documents(msgspec.Struct, frozen=True):
    """The signed documents of an acquisition that a sender keeps: they prove the end of the custody chain."""

    manifest_signature: bytes
    acquired: bytes
    acquired_signature: bytes
    receipt: bytes
    receipt_signature: bytes
    received: bytes
    received_signature: bytes

    def by_name(self) -> dict[str, bytes]:
        """Returns the documents by the names that they have in a vault."""
        return {
            "manifest.jsonl.sig": self.manifest_signature,
            "acquired.json": self.acquired,
            "acquired.json.sig": self.acquired_signature,
            "receipt.json": self.receipt,
            "receipt.json.sig": self.receipt_signature,
            "received.json": self.received,
            "received.json.sig": self.received_signature,
        }


class PushOutcome(msgspec.Struct, frozen=True):
    """The results of a published acquisition at this end. Digests are hexadecimal; sizes are bytes.

    `stored` is how contents came to lie in the vault, and `lookup` how far the vault looked for what it has, as its receipt
    says. `interruptions` counts the links that were lost, `leftovers` the earlier sessions whose data the vault still had.
    `damaged` counts files of earlier acquisitions that the vault found damaged, and did not use. `vault_head` is where the
    vault's own chain ends; `seen` is what is worth remembering.
    `clock_offset_ns`: how far the vault's clock was ahead of ours, give or take the half of a round trip; and
    `source_clock_offset_ns` that of the machine that was pulled from, where it told. `contradictions`: times of the vault's
    documents that cannot be true, each in a sentence. `changes` counts what differs from the previous acquisition, as the vault
    says; None for the first one, from an older vault, and where a lost acknowledgement was repeated. `other_source`: where the
    previous acquisition came from, if that was another machine or path. `alike`: numbers that the vault has, and that those of a
    new item may be mistaken for. `previous_is_whole`: whether the vault has all of the previous acquisition's documents.
    `why_all_read`: why everything was read although `quick` was asked for.
    """

    name: ItemName
    vault_id: str
    session: str
    acquisition: int
    tally: SourceTally
    literal_bytes: int
    reused_bytes: int
    zero_bytes: int
    stored: Stored
    lookup: str
    wire_sent: int
    wire_received: int
    seconds: float
    interruptions: int
    leftovers: int
    manifest_sha256: str
    receipt_sha256: str
    chain_head_sha256: str
    vault_head: KnownChain | None
    seen: list[RememberedHead]
    read_back: bool
    damaged: int
    clock_offset_ns: int
    documents: Documents
    source_clock_offset_ns: int | None = None
    contradictions: list[str] = msgspec.field(default_factory=list)
    changes: Changes | None = None
    other_source: str | None = None
    alike: Alike | None = None
    previous_is_whole: bool = True
    why_all_read: str | None = None
