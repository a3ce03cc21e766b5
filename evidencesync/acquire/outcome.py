"""Concludes a push or a pull: checks the vault's acknowledgement, and gathers the results for the command line."""

from __future__ import annotations

from dataclasses import dataclass

from evidencesync.acquire.acknowledgement import PUBLISHED_HINT, Acknowledged, Sent, check_published
from evidencesync.acquire.handshake import Handshake
from evidencesync.acquire.reading import SourceTally
from evidencesync.acquire.request import Documents, PushOutcome, PushRequest
from evidencesync.acquire.signing import ManifestSums, Signed
from evidencesync.custody.documents import ManifestHeader
from evidencesync.errors import hinting
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.protocol.messages import Published


@dataclass(frozen=True, slots=True)
class CountedTraffic:
    """Counts the traffic of a transfer. `interruptions` counts the links that were lost."""

    literal_bytes: int
    reused_bytes: int
    zero_bytes: int
    wire_sent: int
    wire_received: int
    seconds: float
    interruptions: int


@dataclass(frozen=True, slots=True)
class ConcludedPush:
    """One acquisition from the handshake to the vault's acknowledgement, as the examiner's end knows it."""

    request: PushRequest
    handshake: Handshake
    header: ManifestHeader
    tally: SourceTally
    sums: ManifestSums
    signed: Signed
    published: Published

    def acknowledged(self, now_ns: int) -> Acknowledged:
        """Checks the acknowledgement, and that the vault's chains hold it. Raises what `check_published` raises."""
        signed = self.signed
        sent = Sent(
            self.header,
            self.tally.manifest,
            self.sums.sha256.hex(),
            signed.manifest_signature,
            signed.acquired,
            read_back=self.request.read_back,
        )
        with hinting(PUBLISHED_HINT):
            checked = check_published(self.published, sent, self.handshake, now_ns)
            self.handshake.shown.conclude(signed.acquired, self.published.received)
        return checked

    def outcome(
        self, checked: Acknowledged, traffic: CountedTraffic, now_ns: int, *, source_clock_offset_ns: int | None
    ) -> PushOutcome:
        """Returns the results of the acquisition, once it is acknowledged."""
        request, handshake, published = self.request, self.handshake, self.published
        return PushOutcome(
            name=request.name,
            vault_id=handshake.vault_id,
            session=request.session,
            acquisition=published.acquisition,
            tally=self.tally,
            literal_bytes=traffic.literal_bytes,
            reused_bytes=traffic.reused_bytes,
            zero_bytes=traffic.zero_bytes,
            stored=checked.receipt.stored,
            wire_sent=traffic.wire_sent,
            wire_received=traffic.wire_received,
            seconds=traffic.seconds,
            interruptions=traffic.interruptions,
            leftovers=handshake.ready.leftovers,
            manifest_sha256=self.sums.sha256.hex(),
            receipt_sha256=checked.receipt_sha256,
            chain_head_sha256=checked.chain_head_sha256,
            vault_head=handshake.shown.own.known,
            seen=handshake.shown.remembered(format_utc_time(now_ns)),
            read_back=request.read_back,
            damaged=published.damaged,
            clock_offset_ns=handshake.clock_offset,
            source_clock_offset_ns=source_clock_offset_ns,
            documents=self._documents(),
            contradictions=checked.contradictions,
        )

    def _documents(self) -> Documents:
        signed, published = self.signed, self.published
        return Documents(
            signed.manifest_signature,
            signed.acquired,
            signed.acquired_signature,
            published.receipt,
            published.receipt_signature,
            published.received,
            published.received_signature,
        )
