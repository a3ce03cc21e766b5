"""Makes and signs the examiner's documents: the manifest's header, the manifest's signature, and the `acquired` record."""

from __future__ import annotations

import hashlib
import time
from typing import Literal

import msgspec

import evidencesync
from evidencesync.acquire.handshake import Handshake
from evidencesync.acquire.reading import SourceTally
from evidencesync.acquire.request import PushRequest
from evidencesync.custody.documents import (
    CUSTODY_NAMESPACE,
    MANIFEST_NAMESPACE,
    Clock,
    CustodyRecord,
    DigestsTakenAt,
    Direction,
    ManifestHeader,
    Method,
    Origin,
    Person,
    SshPeer,
)
from evidencesync.custody.labels import CAPTURED
from evidencesync.custody.record import encode_record
from evidencesync.custody.sshsig import sign_document
from evidencesync.delta.chunker import PARAMETERS
from evidencesync.evidence.digest import Sha256Digest, new_sha256, sha512_of
from evidencesync.evidence.utc_time import UtcTime, format_file_time
from evidencesync.source.origin import describe_origin
from evidencesync.source.root import SourceRoot
from evidencesync.source.salvage import OnReadError


class ManifestSums(msgspec.Struct, frozen=True):
    """A manifest's length and digests."""

    size: int
    sha256: Sha256Digest
    sha512: bytes


class ManifestHasher:
    """Digests a manifest's bytes as they are sent, header first."""

    def __init__(self) -> None:
        self._size = 0
        self._sha256, self._sha512 = new_sha256(), hashlib.sha512()

    def update(self, lines: bytes) -> None:
        """Adds the next lines."""
        self._size += len(lines)
        self._sha256.update(lines)
        self._sha512.update(lines)

    def sums(self) -> ManifestSums:
        """Returns length and digests of all lines."""
        return ManifestSums(self._size, Sha256Digest(self._sha256.digest()), self._sha512.digest())


class Signed(msgspec.Struct, frozen=True):
    """The examiner's signatures, and the `acquired` record."""

    manifest_signature: bytes
    acquired: bytes
    acquired_signature: bytes


class Provenance(msgspec.Struct, frozen=True):
    """Where the evidence comes from and how it was read, as the manifest's header states it.

    `peer` is the SSH server, None where everything is on this machine; `clock_offset` is how far the other machine's clock is
    ahead of ours, in nanoseconds, where that is known. `on_read_error` is an OnReadError, `without-content` where a file is
    recorded whole or without its content, or `kept` where what came of a capture is kept and flagged. `times` describes a file's
    times where they are less exact than the source's.
    """

    origin: Origin
    direction: Direction
    digests_taken_at: DigestsTakenAt
    peer: SshPeer | None
    clock_offset: int | None
    note: str | None
    on_read_error: OnReadError | Literal["without-content", "kept"]
    times: str | None = None


def pushed_from(source: SourceRoot, request: PushRequest, handshake: Handshake, peer: SshPeer | None) -> Provenance:
    """Returns the provenance of a source on this machine."""
    direction: Direction = "push" if peer else "local"
    offset, instead = handshake.clock_offset, request.on_read_error
    return Provenance(describe_origin(source), direction, "source", peer, offset, source.note, instead)


def make_header(request: PushRequest, provenance: Provenance, handshake: Handshake, started: UtcTime) -> ManifestHeader:
    """Makes the manifest's first line."""
    ready = handshake.ready
    previous = ready.previous_manifest_sha256
    return ManifestHeader(
        format="evidencesync-manifest/1",
        vault_id=handshake.vault_id,
        vault_key=handshake.vault_key.fingerprint,
        case=request.name.case.text,
        item=request.name.item.text,
        acquisition=ready.acquisition,
        session=request.session,
        previous_manifest_sha256=previous.hex() if previous else None,
        examiner=Person(
            name=request.examiner,
            principal=ready.principal,
            key=request.signer.public_key.fingerprint,
            organisation=request.organisation,
        ),
        direction=provenance.direction,
        digests_taken_at=provenance.digests_taken_at,
        source=provenance.origin,
        method=Method(
            tool="evidencesync",
            version=evidencesync.__version__,
            command_line=request.command_line,
            digests=["blake3", "sha256"],
            filters=request.rules.lines(),
            options={
                "chunking": PARAMETERS,
                "read-back": "yes" if request.read_back else "no",
                "on-read-error": provenance.on_read_error,
                **({"times": provenance.times} if provenance.times else {}),
                **({CAPTURED: request.described} if request.described else {}),
            },
        ),
        ssh=provenance.peer,
        started=started,
        clock=Clock(
            utc_offset=time.strftime("%z")[:3] + ":" + time.strftime("%z")[3:5],
            peer_offset_seconds=None if provenance.clock_offset is None else format_file_time(provenance.clock_offset),
        ),
        notes=[*request.notes, *([provenance.note] if provenance.note else [])],
        agent=request.agent,
    )


def sign(
    request: PushRequest,
    header: ManifestHeader,
    handshake: Handshake,
    sums: ManifestSums,
    tally: SourceTally,
    now: UtcTime,
    clock_set_seconds: int,
) -> Signed:
    """Signs the manifest, and the `acquired` record, which takes it into the chain.

    `clock_set_seconds`: by how much this machine's clock was set since the run began. The times in documents do not follow that.
    """
    signer, ready = request.signer, handshake.ready
    head = ready.chain_head_sha256
    acquired = encode_record(
        CustodyRecord(
            format="evidencesync-custody/1",
            vault_id=header.vault_id,
            sequence=ready.chain_sequence + 1,
            type="acquired",
            time=now,
            case=header.case,
            item=header.item,
            actor=header.examiner,
            previous_sha256=head.hex() if head else None,
            details=_details(request, header, tally, clock_set_seconds),
            acquisition=header.acquisition,
            manifest_sha256=sums.sha256.hex(),
        )
    )
    return Signed(
        sign_document(signer, MANIFEST_NAMESPACE, sums.sha512),
        acquired,
        sign_document(signer, CUSTODY_NAMESPACE, sha512_of(acquired)),
    )


def _details(request: PushRequest, header: ManifestHeader, tally: SourceTally, clock_set_seconds: int) -> dict[str, str]:
    """Returns the details of the `acquired` record: where the source was read, results of the whole reading, facts of the item.

    The record's own facts have the names in `custody.details.EVENT_NAMES`.
    """
    details = {"source": header.source.path or header.source.path_b64 or request.described, "host": header.source.host}
    if tally.changed_folders:
        details["folders_changed_while_read"] = str(tally.changed_folders)
    if tally.bad_bytes:
        details["bytes_not_readable"] = str(tally.bad_bytes)
    if clock_set_seconds:
        details["clock_set_seconds"] = f"{clock_set_seconds:+d}"
    return request.details | details
