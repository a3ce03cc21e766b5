"""Defines every message of the protocol with its bounds. `docs/protocol.md` explains their order.

A message is a MessagePack array of its fields. Several digests are packed in one byte string. Decoding checks every bound: so a
session gets well-formed messages, and checks their order itself.
"""

# No annotations of the __future__ here: msgspec would have to compile each of these texts at every start.
from typing import Annotated, Final, Literal

import msgspec

from evidencesync.limits import (
    MAX_ALIKE,
    MAX_ERROR_TEXT,
    MAX_FILE_SIZE,
    MAX_HEADER_LINE,
    MAX_KEY_CHANGES,
    MAX_PAGE,
    MAX_PAGE_LINES,
    MAX_PATH,
    MAX_PUBLIC_KEY,
    MAX_RECORD,
    MAX_RECORDS,
    MAX_SEGMENT_PIECES,
    MAX_SEGMENT_ROWS,
    MAX_SIGNATURE,
    MAX_TIMESTAMP,
    MAX_TITLE,
    MAX_VERSIONS,
    NONCE,
    PIECE_DIGEST,
    PROOF,
    SMALL_FILE,
    WINDOW,
)

PROTOCOL_VERSION: Final = 1
PATIENT_VERSION: Final = 101
"""Version 1 with its first addition: a sender states its timeouts (`Patience`), and failures may have newer slugs."""
SIGNS_VERSION: Final = 102
"""With its second addition: in a custody session, too, a vault that works says Status."""
CHANGES_VERSION: Final = 103
"""With its third addition: Previous and Changes compare with the previous acquisition, Withdraw ends a session without one."""
ALIKE_VERSION: Final = 104
"""With its fourth addition: Alike says what a new item may be taken for."""
READING_VERSION: Final = 105
"""With its fifth addition: the purpose `read`, in which a vault sends its documents."""
ASKING_VERSION: Final = 106
"""With its sixth addition: a reader asks one thing after another, also for a verdict and for evidence."""
ROLES_VERSION: Final = 107
"""With its seventh addition: a reader is sent the list of roles, and failures say `not-allowed`."""
TELLING_VERSION: Final = 108
"""With its eighth addition: beside documents, a vault tells what it could not read, and what else lies among them."""
MANIFESTS_VERSION: Final = 109
"""With its ninth addition: a reader asks for all of every manifest."""
KEPT_VERSION: Final = 110
"""With its tenth addition: Kept says that a larger content is what the previous acquisition has at its path; manifests
may say that a file was not read again."""
ATTACH_VERSION: Final = 111
"""With its eleventh addition: in a custody session, Attach brings an authority's answer, which a record names."""
TRUST_VERSION: Final = 112
"""With its twelfth addition: the purpose `trust`, in which an administrator changes whom a vault trusts."""
PATCH_VERSION: Final = 113
"""With its thirteenth addition: a reader that has an older state of a file is sent what differs (PatchAsk)."""
HOLES_VERSION: Final = 114
"""With its fourteenth addition: progress has totals of holes, and a reader asks beforehand whether it may record."""
KEYS_VERSION: Final = 115
"""With its fifteenth addition: KeyChanges proves the key of a vault whose key was changed."""
TWO_PEOPLE_VERSION: Final = KEYS_VERSION
"""With the same: what needs two people is proposed, and consented to."""
VERSIONS: Final = (
    PROTOCOL_VERSION,
    PATIENT_VERSION,
    SIGNS_VERSION,
    CHANGES_VERSION,
    ALIKE_VERSION,
    READING_VERSION,
    ASKING_VERSION,
    ROLES_VERSION,
    TELLING_VERSION,
    MANIFESTS_VERSION,
    KEPT_VERSION,
    ATTACH_VERSION,
    TRUST_VERSION,
    PATCH_VERSION,
    HOLES_VERSION,
    KEYS_VERSION,
)
PREAMBLE: Final = b"\nEVIDENCESYNC-STREAM-1\n"
"""The first bytes in both directions, which separate a login shell's greeting from the protocol."""

U32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_SIZE)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""The time of a machine's clock. A clock that is a century off is wrong, but no attack."""


def clock_for(version: int | None, clock: int) -> int:
    """Returns a clock within the bounds of a version: before PATIENT_VERSION, not after 2116. None: not known yet."""
    return clock if version is not None and version >= PATIENT_VERSION else max(-(2**62), min(2**62, clock))


Purpose = Literal["push", "custody", "read", "trust"]
ShortText = Annotated[str, msgspec.Meta(max_length=256)]
Digest32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(max_length=MAX_SIGNATURE)]
DocumentBytes = Annotated[bytes, msgspec.Meta(max_length=MAX_RECORD - 64 * 1024)]
Timestamp = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_TIMESTAMP)]
Digest16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
AlikeTitles = Annotated[list[Annotated[str, msgspec.Meta(max_length=MAX_TITLE)]], msgspec.Meta(max_length=MAX_ALIKE)]
Bitmap = Annotated[bytes, msgspec.Meta(max_length=128)]  # one bit each for MAX_PAGE_LINES or MAX_SEGMENT_ROWS


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all messages."""


class Hello(Message, frozen=True):
    """The client's first message: its versions, its purpose, and its clock."""

    versions: Annotated[list[U32], msgspec.Meta(min_length=1, max_length=MAX_VERSIONS)]
    tool: ShortText
    purpose: Purpose
    vault: Annotated[bytes, msgspec.Meta(max_length=MAX_PATH)]
    parameters: ShortText
    clock: Nanoseconds


class KeyChanges(Message, frozen=True):
    """Before Welcome, from KEYS_VERSION on, of a vault whose key was changed: the record of each change, and its signature."""

    records: Annotated[list[tuple[DocumentBytes, Signature]], msgspec.Meta(min_length=1, max_length=MAX_KEY_CHANGES)]


class Welcome(Message, frozen=True):
    """The vault's answer: its id and key, and the nonce that the examiner has to sign."""

    version: U32
    tool: ShortText
    vault_id: ShortText
    vault_key: Annotated[bytes, msgspec.Meta(max_length=MAX_PUBLIC_KEY)]
    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE, max_length=NONCE)]
    parameters: ShortText
    clock: Nanoseconds


class Patience(Message, frozen=True):
    """The sender's timeouts, so that the other end does not wait longer. Directly before Begin or Fetch, from PATIENT_VERSION on.

    `timeout_ms`: after so long a silence the sender takes the link for lost; it sends a keep-alive more often than that.
    `reconnect_seconds`: for how long it may try to reconnect; 0: it will not. `least_bytes`: the room that its contents need at
    the least, where the vault has nothing of them; 0: not known.
    """

    timeout_ms: U32
    reconnect_seconds: U32
    least_bytes: Size


class Begin(Message, frozen=True):
    """Proof of the examiner's key: a SessionClaim document and its signature.

    `resumes`: the session was begun on another link, and is to be resumed on this one. `seen` and `vault_seen` are the numbers of
    the last records that the sender has seen of the item's chain and of the vault's own; 0: none.
    """

    claim: DocumentBytes
    signature: Signature
    read_back: bool
    resumes: bool
    seen: U32
    vault_seen: U32


class Ready(Message, frozen=True):
    """The item is locked for this session: its next acquisition, and the head of its chain.

    `leftovers` counts earlier sessions that ended before they had published; lookups find what they had stored. `known_contents`
    counts the contents that lookups can find: where it is 0, asking is useless. A vault of an earlier version may send `vault`.
    """

    principal: ShortText
    acquisition: U32
    chain_sequence: U32
    chain_head_sha256: Digest32 | None
    previous_manifest_sha256: Digest32 | None
    known_contents: Size
    lookup: Literal["item", "case", "vault"]
    leftovers: U32


class Previous(Message, frozen=True):
    """The first and the last line of the previous acquisition's manifest. Directly before Ready, from CHANGES_VERSION on.

    Where no entry has changed, the entries between these two have the digest that Ready states. It is not sent before the first
    acquisition, and where that manifest cannot be read.
    """

    header: Annotated[bytes, msgspec.Meta(max_length=MAX_HEADER_LINE)]
    footer: Annotated[bytes, msgspec.Meta(max_length=MAX_HEADER_LINE)]


class Alike(Message, frozen=True):
    """Numbers of items and cases that are nearly those of a new item. Before Ready, from ALIKE_VERSION on.

    It is a hint for a person, and not sent where there are none.
    """

    items: AlikeTitles
    cases: AlikeTitles


class Resumed(Message, frozen=True):
    """The session is resumed: pages and segments below these numbers are stored, and so many streams are complete.

    `stream_open`: the next stream was begun. `concluding`: Finish has arrived, and nothing more is to be sent.
    """

    pages: U32
    segments: U32
    streams: U32
    stream_open: bool
    concluding: bool


class Alive(Message, frozen=True):
    """A keep-alive: the sender is still reading, and has nothing to send. A silent link counts as lost after the timeout."""


class PageOffer(Message, frozen=True):
    """Names the next page of manifest lines by its digest."""

    number: U32
    digest: Digest16


class PageAnswer(Message, frozen=True):
    """Whether an earlier manifest of the item has that page."""

    number: U32
    known: bool


class Page(Message, frozen=True):
    """A page's lines follow as data of `size` bytes, and then (`with_files`) all of its small contents, unasked.

    `proofs` is not read. An earlier version sends 16 bytes for some of the contents.
    """

    number: U32
    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)]
    with_files: bool
    proofs: Annotated[bytes, msgspec.Meta(max_length=PROOF * MAX_PAGE_LINES)]


class Want(Message, frozen=True):
    """Which of a page's small contents (in line order, one bit each) the vault lacks. The first bit is the lowest."""

    page: U32
    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_PAGE_LINES)]
    missing: Bitmap


class Files(Message, frozen=True):
    """Small contents of a page follow as data, one after the other in line order; one bit each says which."""

    page: U32
    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_PAGE_LINES)]
    present: Bitmap
    size: Annotated[int, msgspec.Meta(ge=0, le=WINDOW)]


class PagesStored(Message, frozen=True):
    """All pages below `count` are stored, with all their contents. Cumulative."""

    count: U32


class Open(Message, frozen=True):
    """A stream begins: a content larger than a small file, of at most `size` bytes."""

    stream: U32
    size: Size


class Resembles(Message, frozen=True):
    """Directly after Open: the open stream is the file at `path`, and probably resembles the previous file there.

    It is a hint where to compare pieces first. Nothing else depends on it.
    """

    stream: U32
    path: Annotated[bytes, msgspec.Meta(max_length=MAX_PATH)]


class Kept(Message, frozen=True):
    """In place of a stream, from KEPT_VERSION on: its content is that of `path` in the previous acquisition. Nothing follows."""

    stream: U32
    size: Annotated[int, msgspec.Meta(gt=SMALL_FILE, le=MAX_FILE_SIZE)]
    blake3: Digest32
    path: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_PATH)]


class KeptLost(Message, frozen=True):
    """The answer to Kept of a vault that lacks that content, or whose copy is damaged. Of what it has, it says nothing."""

    stream: U32


class SegmentOffer(Message, frozen=True):
    """Names the next segment of the open stream by its digest; `size` is its length with all zeros.

    `proof` is not read. An earlier version sends 16 bytes.
    """

    segment: U32
    digest: Digest16
    size: Size
    proof: Annotated[bytes, msgspec.Meta(max_length=PROOF)]


class SegmentAnswer(Message, frozen=True):
    """Whether the vault has that segment. If not, this answer requests its rows."""

    segment: U32
    known: bool


class Chunks(Message, frozen=True):
    """The rows of a segment that the vault lacks: 4 bytes length and 16 bytes digest (all zero: zeros) each."""

    segment: U32
    rows: Annotated[bytes, msgspec.Meta(min_length=20, max_length=20 * MAX_SEGMENT_ROWS)]


class Need(Message, frozen=True):
    """Which rows of a segment the vault lacks, one bit each. May come again for a segment whose basis is damaged.

    `gaps` are runs of lacked rows whose pieces are to be named first: number of the first row, count of rows, and length
    of the first piece of a grid (or 65535: cut by content), 2 bytes each.
    """

    segment: U32
    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEGMENT_ROWS)]
    missing: Bitmap
    gaps: Annotated[bytes, msgspec.Meta(max_length=6 * MAX_SEGMENT_ROWS)]


class Pieces(Message, frozen=True):
    """The pieces of a segment's gaps, in order: 2 bytes length for each that is cut by content, 4 bytes digest for each."""

    segment: U32
    lengths: Annotated[bytes, msgspec.Meta(max_length=2 * MAX_SEGMENT_PIECES)]
    digests: Annotated[bytes, msgspec.Meta(max_length=PIECE_DIGEST * MAX_SEGMENT_PIECES)]


class NeedPieces(Message, frozen=True):
    """Which pieces of a segment's gaps the vault lacks, one bit each.

    `again` has one bit for each gap whose pieces were named: that gap is to be cut once more, by content, and none of its
    bits in `missing` is set. Only a grid may be.
    """

    segment: U32
    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEGMENT_PIECES)]
    missing: Annotated[bytes, msgspec.Meta(max_length=(MAX_SEGMENT_PIECES + 7) // 8)]
    again: Bitmap


class SegmentData(Message, frozen=True):
    """A whole segment: row lengths (4 bytes each, the top bit for zeros); the chunks follow as data of `size` bytes."""

    segment: U32
    lengths: Annotated[bytes, msgspec.Meta(min_length=4, max_length=4 * MAX_SEGMENT_ROWS)]
    size: Annotated[int, msgspec.Meta(ge=0, le=WINDOW)]


class ChunkData(Message, frozen=True):
    """The requested parts of a segment follow as data of `size` bytes: rows in order, then the pieces of gaps in order."""

    segment: U32
    size: Annotated[int, msgspec.Meta(ge=0, le=WINDOW)]


class SegmentsStored(Message, frozen=True):
    """All segments below `count` are stored. Cumulative."""

    count: U32


class Close(Message, frozen=True):
    """The open stream is complete: its size and digest, as they were read at the source."""

    stream: U32
    size: Size
    blake3: Digest32


class Finish(Message, frozen=True):
    """All pages were sent: the manifest's length, digest and signature, and the signed `acquired` record."""

    manifest_size: Size
    manifest_sha256: Digest32
    signature: Signature
    acquired: DocumentBytes
    acquired_signature: Signature
    pages: U32


class Status(Message, frozen=True):
    """The vault's progress; also its keep-alive.

    While it is `receiving`, `done` bytes of content have arrived on this link, as they were read at the source, and `total` bytes
    of all kinds on all links of the session; both are 0 from a vault that does not count them. Later, `done` of `total` is done.
    """

    stage: Literal["receiving", "syncing", "read-back", "publishing"]
    done: Size
    total: Size


class Published(Message, frozen=True):
    """The acquisition is published and durable; the vault's signed statement.

    `damaged` counts published files that were found damaged, and not used as a basis: `verify` names them. `repeated`: this
    session had published it before, and its acknowledgement was lost.
    """

    acquisition: U32
    receipt: DocumentBytes
    receipt_signature: Signature
    received: DocumentBytes
    received_signature: Signature
    damaged: U32
    repeated: bool


class Changes(Message, frozen=True):
    """How many entries differ from the previous acquisition, for a display alone. Before Published, from CHANGES_VERSION on.

    `moved`: the same content under another path, counted in neither `added` nor `removed`; None where too much differs to look
    for it. `metadata`: the content is the same. `filtered`: a filter left it out of one of both. It is not sent where there is no
    previous manifest to read.
    """

    added: Size
    removed: Size
    moved: Size | None
    changed: Size
    metadata: Size
    filtered: Size


class Withdraw(Message, frozen=True):
    """In place of Finish, from CHANGES_VERSION on: no acquisition is wanted. The vault removes what is staged, and answers so."""


class Records(Message, frozen=True):
    """Records of one custody chain, the item's or the vault's own, and their signatures, in order, from number `first` on.

    `more`: others of that chain follow in the next message.
    """

    first: U32
    records: Annotated[list[tuple[DocumentBytes, Signature]], msgspec.Meta(max_length=MAX_RECORDS)]
    more: bool


class Standing(Message, frozen=True):
    """The length and the head of the item's custody chain; Records follow, from the first one that was not sent on this link.

    `principal` is the name under which the vault knows the client's key.
    """

    principal: ShortText
    count: U32
    head_sha256: Digest32 | None


class Append(Message, frozen=True):
    """One more record for the item's chain, and the examiner's signature over it."""

    record: DocumentBytes
    signature: Signature


class Attach(Message, frozen=True):
    """An authority's answer about an acquisition, and the request that it answers where that is known; from ATTACH_VERSION on.

    With the next record of the item's chain, which names both, and the examiner's signature over it. Record and signature are
    empty where the chain has such a record: then a file that it names and that is not there is put in its place.
    """

    acquisition: U32
    response: Timestamp
    request: Timestamp | None
    record: Annotated[bytes, msgspec.Meta(max_length=MAX_RECORD // 4)]
    signature: Signature


class Failure(Message, frozen=True):
    """Why the session ends. The slug is one of the tool's own; everything in it is shown only in safe form."""

    slug: Annotated[str, msgspec.Meta(max_length=64)]
    message: Annotated[str, msgspec.Meta(max_length=MAX_ERROR_TEXT)]
    hint: Annotated[str, msgspec.Meta(max_length=MAX_ERROR_TEXT)] | None
