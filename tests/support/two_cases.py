"""Two cases in one vault: one that has something, and one into which somebody pushes who wants to know of it, or to have it."""

from __future__ import annotations

import os
import random
import struct
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import msgspec

from evidencesync.custody.manifest import encode_entry_lines
from evidencesync.delta.chunker import Segment, SegmentCutter
from evidencesync.delta.rows import Row, segment_digest
from evidencesync.evidence.digest import ChunkDigest, chunk_digest_of
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.limits import PROOF
from evidencesync.protocol.framing import encode_message
from evidencesync.protocol.messages import (
    Chunks,
    Message,
    Need,
    Open,
    Page,
    PageAnswer,
    PageOffer,
    Ready,
    Resembles,
    SegmentAnswer,
    SegmentOffer,
    Want,
)
from tests.support.bench_of_evidence import Bench
from tests.support.hostile_client import ROOT, HostileClient, data_frame, entry_of

KIB: Final = 1 << 10
MIB: Final = 1 << 20
OTHERS: Final = ItemName(Title("2026/11"), Title("E1"))
MINE: Final = ItemName(Title("2026/12"), Title("E9"))
_noise = random.Random(20261123)
IMAGE: Final = _noise.randbytes(9 * MIB) + bytes(MIB) + _noise.randbytes(3 * MIB)
SMALL: Final = {b"report": _noise.randbytes(20 * KIB), b"letter": _noise.randbytes(4 * KIB), b"pin": b"1234"}
_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True)
class Knowledge:
    """All digests of some contents: everything about them but their bytes."""

    segments: list[list[Row]]
    small: list[Entry]
    page: bytes

    def sizes(self) -> list[int]:
        return [sum(row.length for row in rows) for rows in self.segments]


def fill_others_case(bench: Bench) -> None:
    """The other case acquires an image and three small files; then the bench is about a case of one's own, without a source."""
    files = {b"image": IMAGE, **SMALL}
    for name, content in files.items():
        (bench.source / os.fsdecode(name)).write_bytes(content)
    bench.name = OTHERS
    bench.push()
    bench.name = MINE


def cut(content: bytes) -> list[Segment]:
    """The segments of a content, as a source cuts it."""
    cutter = SegmentCutter()
    cutter.buffer(len(content))[:] = content
    return [*cutter.commit(len(content)), *cutter.finish()]


def knowledge_of_the_other_case(bench: Bench) -> Knowledge:
    """What stands in the other case's manifest and recipes."""
    page = (bench.vault.layout.item(OTHERS).acquisition(1) / "manifest.jsonl").read_bytes().split(b"\n", 1)[0] + b"\n"
    small = [entry_of(name, content=content) for name, content in sorted(SMALL.items())]
    return Knowledge([segment.rows() for segment in cut(IMAGE)], small, chunk_digest_of(page))


def knowledge_of_nothing(like: Knowledge) -> Knowledge:
    """The same for contents of the same sizes that no vault has."""
    chance = random.Random(1)
    rows = [
        [row if row.is_zeros else Row(row.length, ChunkDigest(chance.randbytes(16))) for row in segment]
        for segment in like.segments
    ]
    small = [replace_digests(entry, chance.randbytes(32).hex()) for entry in like.small]
    return replace(like, segments=rows, small=small, page=chance.randbytes(16))


def replace_digests(entry: Entry, digest: str) -> Entry:
    return msgspec.structs.replace(entry, blake3=digest, sha256=digest)


class Asker(HostileClient):
    """Asks for contents by their digests, and keeps everything that it hears, to the byte."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.transcript: list[tuple[int, bytes]] = []

    def hear(self, kind: type[_M]) -> _M:
        while True:
            message = super().hear(Message)
            self.transcript.append(encode_message(message))
            if isinstance(message, kind):
                return message

    def enter(self) -> Ready:
        """An honest handshake, of which nothing is kept."""
        self.send(self.begin(self.claim(self.hello())))
        self.ready = self.hear(Ready)
        self.transcript.clear()
        return self.ready

    def offer(self, number: int, rows: list[Row], proof: bytes) -> bool:
        """Whether the vault says that it knows a segment."""
        self.send(SegmentOffer(number, segment_digest(rows), sum(row.length for row in rows), proof))
        return self.hear(SegmentAnswer).known

    def list_rows(self, number: int, rows: list[Row]) -> Need:
        """What the vault says that it needs of a segment."""
        self.send(Chunks(number, b"".join(struct.pack("<I16s", row.length, row.digest) for row in rows)))
        return self.hear(Need)

    def begin_manifest(self) -> None:
        """The first page."""
        self.send_page(0, msgspec.json.encode(self.header()) + b"\n")

    def list_small(self, number: int, entries: list[Entry], proofs: list[bytes]) -> Want:
        """What the vault says that it lacks of a page's small files; there must be something. The first page has the root."""
        self.send_small(number, entries, proofs)
        return self.hear(Want)

    def send_small(self, number: int, entries: list[Entry], proofs: list[bytes]) -> None:
        """A page of small files without their contents."""
        listed = [*([ROOT] if number == 1 else []), *entries]
        lines = b"".join(line for entry in listed for line in encode_entry_lines(entry))
        self.send(Page(number, len(lines), with_files=False, proofs=b"".join(proofs)))
        self.send_bytes(data_frame(lines))

    def ask_everything(self, known: Knowledge, proof: bytes) -> None:
        """Segments, chunks, small contents and a page by their digests, with one proof for all, as an earlier sender adds it."""
        self.send(Open(0, sum(known.sizes())), Resembles(0, b"image"))
        for number, rows in enumerate(known.segments):
            self.offer(number, rows, proof)
        for number, rows in enumerate(known.segments):
            self.list_rows(number, rows)
        self.begin_manifest()
        self.list_small(1, known.small, [proof] * len(known.small))
        self.send(PageOffer(2, known.page))
        self.hear(PageAnswer)


NO_PROOF: Final = b""
ANY_PROOF: Final = b"p" * PROOF
