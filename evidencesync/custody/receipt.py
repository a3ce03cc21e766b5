"""Encodes, decodes and checks receipts: the vault's signed statements of what it has on its disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from evidencesync.custody.documents import BroughtAgent, ManifestFooter, ManifestHeader, Point, Receipt, Tally
from evidencesync.custody.text import check_texts, check_title, check_utc_time, decode_readable, encode_readable
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.number_format import count_text
from evidencesync.limits import MAX_RECORD

_DECODER: Final = msgspec.json.Decoder(Receipt)


def encode_receipt(receipt: Receipt) -> bytes:
    """Returns the exact bytes to store and sign. Raises MalformedDocumentError for a receipt that a reader would refuse."""
    data = encode_readable(receipt)
    decode_receipt(data)
    return data


def decode_receipt(data: bytes) -> Receipt:
    """Decodes a receipt from its exact bytes. Raises MalformedDocumentError."""
    receipt = decode_readable(_DECODER, data, MAX_RECORD, "the receipt")
    check_texts(receipt, "the receipt")
    check_title(receipt.case, "the receipt")
    check_title(receipt.item, "the receipt")
    check_utc_time(receipt.finished, "the receipt")
    if (receipt.acquisition == 1) != (receipt.previous_receipt_sha256 is None):
        raise MalformedDocumentError("the receipt names a previous receipt for a first acquisition, or none later")
    return receipt


class ReceiptFacts(msgspec.Struct, frozen=True):
    """What the checker of a receipt knows independently. Digests are hexadecimal; None is not known.

    A sender knows everything except the sums, the recipes and the previous receipt; `verify` knows everything.
    """

    header: ManifestHeader
    footer: ManifestFooter
    contents: int
    manifest_sha256: str
    manifest_signature_sha256: str
    acquired_sha256: str
    acquired_sequence: int
    sha256sums_sha256: str | None = None
    blake3sums_sha256: str | None = None
    chunks_sha256: str | None = None
    previous_receipt_sha256: str | None = None


class ReceiptMismatch(msgspec.Struct, frozen=True):
    """One field of a receipt with a wrong value."""

    field: str
    expected: str
    stated: str

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, the receipt says {self.stated}"


def check_receipt(receipt: Receipt, facts: ReceiptFacts) -> list[ReceiptMismatch]:
    """Compares a receipt with what is known, and returns every difference, in the order of the receipt's fields.

    An empty list means that the receipt is about this manifest and all that it lists. Signatures are not checked here.
    """
    header = facts.header
    known: list[tuple[str, object, object]] = [
        ("vault_id", header.vault_id, receipt.vault_id),
        ("vault_key", header.vault_key, receipt.vault_key),
        ("case", header.case, receipt.case),
        ("item", header.item, receipt.item),
        ("acquisition", header.acquisition, receipt.acquisition),
        ("session", header.session, receipt.session),
        ("manifest_sha256", facts.manifest_sha256, receipt.manifest_sha256),
        ("manifest_signature_sha256", facts.manifest_signature_sha256, receipt.manifest_signature_sha256),
        ("sha256sums_sha256", facts.sha256sums_sha256, receipt.sha256sums_sha256),
        ("blake3sums_sha256", facts.blake3sums_sha256, receipt.blake3sums_sha256),
        ("chunks_sha256", facts.chunks_sha256, receipt.chunks_sha256),
        ("acquired_sha256", facts.acquired_sha256, receipt.acquired_sha256),
        ("acquired_sequence", facts.acquired_sequence, receipt.acquired_sequence),
        ("previous_receipt_sha256", facts.previous_receipt_sha256, receipt.previous_receipt_sha256),
        ("agent", _brought(header.agent), _brought(receipt.agent)),
    ]
    compared = [*known, *_totals(receipt, facts)]
    return [
        ReceiptMismatch(name, str(expected), str(stated))
        for name, expected, stated in compared
        if expected is not None and expected != stated
    ]


POINT_DIGESTS: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {"source": ("blake3", "sha256"), "arrival": ("blake3",), "disk": ("blake3", "sha256")}
)
"""The digests that are taken of every content at each point, if that point is taken at all: a receipt may state no others."""


def _totals(receipt: Receipt, facts: ReceiptFacts) -> list[tuple[str, object, object]]:
    """Returns the totals to compare: every content was counted at each point that was taken, and is stored in some way."""
    expected, none = Tally(files=facts.contents, bytes=facts.footer.bytes), Tally(files=0, bytes=0)
    met: list[tuple[str, object, object]] = []
    for name, digests in POINT_DIGESTS.items():
        point: Point = getattr(receipt.points, name)
        met += [
            (f"points.{name}", _shown(expected if point.taken else none), _shown(Tally(files=point.files, bytes=point.bytes))),
            (f"points.{name}.digests", _listed(digests if point.taken else ()), _listed(point.digests)),
        ]
    ways = (receipt.stored.written, receipt.stored.linked, receipt.stored.reflinked, receipt.stored.copied)
    stored = Tally(files=sum(way.files for way in ways), bytes=sum(way.bytes for way in ways))
    return [
        ("points.source.taken", facts.header.digests_taken_at == "source", receipt.points.source.taken),
        ("points.arrival.taken", True, receipt.points.arrival.taken),
        *met,
        ("stored", _shown(expected), _shown(stored)),
    ]


def _brought(agent: BroughtAgent | None) -> str:
    return "none" if agent is None else f"{agent.path}, {agent.sums_sha256}, signed by {agent.signed_by or 'nobody'}"


def _listed(digests: Sequence[str]) -> str:
    return ", ".join(map(repr, digests)) or "none"


def _shown(tally: Tally) -> str:
    return f"{count_text(tally.files, 'content')}, {count_text(tally.bytes, 'byte')}"
