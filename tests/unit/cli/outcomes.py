"""Made-up outcomes of a push, for what is said about them."""

from __future__ import annotations

from pathlib import Path

from evidencesync.acquire.reading import SourceTally
from evidencesync.acquire.request import Documents, PushOutcome, PushRequest
from evidencesync.custody.consistency import KnownChain
from evidencesync.custody.documents import Stored, Tally
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.sshsig import SigningKey
from evidencesync.evidence.entry import Entry, Flag
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.evidence.path import to_json_fields
from evidencesync.source.filters import FilterRules

NAME = ItemName(Title("2024/17 ü"), Title("L-1"))
DOCUMENTS = Documents(b"ms", b"a", b"as", b"r", b"rs", b"rv", b"rvs")


class NoSigner:
    """A key that is never asked."""

    public_key = PublicKey.from_line("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f")

    def sign(self, data: bytes) -> bytes:
        raise AssertionError(data)


def make_request() -> PushRequest:
    signer: SigningKey = NoSigner()
    return PushRequest(b"/e", b"/v", NAME, "Ana", signer, "0" * 32, FilterRules.none(), ["evidencesync"])


def make_outcome(
    *flagged: tuple[bytes, Flag],
    read_back: bool = True,
    acquisition: int = 3,
    clock_offset_ns: int = 0,
    source_clock_offset_ns: int | None = None,
) -> PushOutcome:
    tally = SourceTally()
    for path, flag in flagged:
        tally.manifest.add(Entry("file", *to_json_fields(path), flags=[flag]))
        tally.flagged.append((path, flag))
    for size in (700_000, 300_000):
        tally.manifest.add(Entry("file", path="x", size=size, blake3="0" * 64, sha256="0" * 64))
    return PushOutcome(
        name=NAME,
        vault_id="1" * 32,
        acquisition=acquisition,
        session="2" * 32,
        interruptions=0,
        leftovers=0,
        tally=tally,
        literal_bytes=100_000,
        reused_bytes=750_000,
        zero_bytes=150_000,
        stored=Stored(Tally(0, 80_000), Tally(1, 300_000), Tally(1, 620_000), Tally(0, 0)),
        lookup="case",
        wire_sent=120_000,
        wire_received=4_000,
        seconds=2.0,
        manifest_sha256="0123456789abcdef" * 4,
        receipt_sha256="b" * 64,
        chain_head_sha256="c" * 64,
        vault_head=KnownChain(7, ("d" * 64,)),
        seen=[],
        damaged=0,
        clock_offset_ns=clock_offset_ns,
        source_clock_offset_ns=source_clock_offset_ns,
        read_back=read_back,
        documents=DOCUMENTS,
    )


def receipts_in(folder: Path) -> dict[str, dict[str, bytes]]:
    return {one.name: {file.name: file.read_bytes() for file in one.iterdir()} for one in folder.iterdir()}
