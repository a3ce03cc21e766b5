"""Attack on the sender: a vault that signs for less than it was asked for, hangs up, or never stops talking."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidencesync.acquire.push import push
from evidencesync.connection.inbox import Inbox, listen
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import Point
from evidencesync.custody.receipt import encode_receipt
from evidencesync.errors import LimitExceededError, LinkLostError, NoSpaceError, SignatureError
from evidencesync.exit_codes import ExitCode
from evidencesync.ingest import admission
from evidencesync.ingest import receipt as ingest_receipt
from evidencesync.ingest import receive as vaults_end
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import PREAMBLE, Failure, Published
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = make_bench(tmp_path)
    (bench.source / "file").write_bytes(b"evidence")
    return bench


def test_a_vault_that_does_not_read_back_what_it_was_asked_to(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = admission.admit
    monkeypatch.setattr(vaults_end, "admit", lambda *given: msgspec.structs.replace(honest(*given), read_back=False))
    with pytest.raises(SignatureError, match="did not read its disk back"):
        bench.push()
    assert not bench.push(read_back=False).read_back


@pytest.mark.parametrize(
    "change",
    [
        {"manifest_signature_sha256": "0" * 64},
        {"acquired_sequence": 7},
        {"points": "fewer"},
    ],
    ids=["another signature", "another place in the chain", "fewer contents"],
)
def test_a_receipt_for_less_than_was_sent(bench: Bench, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    def lying(receipt: Any) -> bytes:
        said = dict(change)
        if "points" in said:
            nothing = Point(taken=True, method="none", digests=["blake3", "sha256"], files=0, bytes=0)
            said["points"] = msgspec.structs.replace(receipt.points, disk=nothing)
        return encode_receipt(msgspec.structs.replace(receipt, **said))

    monkeypatch.setattr(ingest_receipt, "encode_receipt", lying)
    with pytest.raises(SignatureError, match="something else"):
        bench.push()


def test_what_the_vault_said_before_it_hung_up_is_what_is_raised(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write that fails and the words that explain it come by different threads: the words win, however late they are."""
    ours, theirs = local_pair()
    theirs.write(PREAMBLE + frame_of(Failure(NoSpaceError.slug, "the disk is full", None)))
    may_read = threading.Event()
    read = ours.read

    def late() -> bytes:
        may_read.wait(PATIENCE_SECONDS)
        return read()

    def refused(data: bytes) -> None:
        threading.Timer(0.2, may_read.set).start()
        raise LinkLostError("the other end is gone")

    monkeypatch.setattr(ours, "read", late)
    monkeypatch.setattr(ours, "write", refused)
    with pytest.raises(NoSpaceError) as told:
        push(ours, bench.request(), Progress())
    assert told.value.exit_code is ExitCode.NO_SPACE


class Talker(LocalLink):
    """The client's end of a link to a vault that only talks."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        ours, _ = local_pair()
        super().__init__(ours.incoming, ours.outgoing)
        self._blocks = iter(blocks)

    def read(self) -> bytes:
        return next(self._blocks, b"")


def test_long_messages_in_small_blocks_do_not_fill_the_memory() -> None:
    """Each is nearly a mebibyte, of which the last block holds one byte."""
    frame = frame_of(Published(1, bytes(900_000), b"", b"", b"", damaged=0, repeated=False))
    inbox: Inbox[None, Any] = Inbox()
    listen(Talker([PREAMBLE, *[frame[:-1], frame[-1:]] * 60]), inbox)
    assert isinstance(inbox.wait_for_error(20), LimitExceededError)
