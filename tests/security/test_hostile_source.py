"""The other end of a pull may be a suspect's machine: whatever it says, it chooses nothing but what it says of its own files."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from evidencesync.connection.link import LocalLink
from evidencesync.custody.manifest import encode_footer
from evidencesync.custody.wholeness import ManifestTally
from evidencesync.delta.refine import DELTA_PARAMETERS
from evidencesync.errors import (
    DigestMismatchError,
    EvidenceSyncError,
    LimitExceededError,
    LinkLostError,
    PathEscapeError,
    PeerError,
    ProtocolError,
    SourceGapsError,
    VersionError,
)
from evidencesync.evidence.digest import blake3_of, sha256_of
from evidencesync.limits import MAX_DEVICE_FACTS, MAX_FACT
from evidencesync.protocol.data_frames import Outgoing
from evidencesync.protocol.framing import DATA_FRAME, FrameDecoder, decode_message, encode_frame, frame_of
from evidencesync.protocol.messages import (
    PREAMBLE,
    Begin,
    Close,
    Failure,
    Files,
    Finish,
    Hello,
    Message,
    Open,
    Page,
    PageOffer,
    PagesStored,
    Ready,
    Resumed,
    SegmentOffer,
)
from evidencesync.protocol.pull_messages import (
    SourceEnd,
    SourceOffer,
    SourceSeen,
)
from tests.support.bench_of_evidence import Bench
from tests.support.pulling import pull_from

OFFER = SourceOffer(1, "1", DELTA_PARAMETERS, 0, "host", "system", b"/evidence", b"/evidence", None, None, None)
ROOT = b'{"type":"directory","path":""}\n'


def lines_of(path: bytes, content: bytes, **changes: str) -> bytes:
    digests = {"blake3": blake3_of(content).hex(), "sha256": sha256_of(content).hex(), **changes}
    return b'{"type":"file","path":"%b","size":%d,"blake3":"%b","sha256":"%b"}\n' % (
        path,
        len(content),
        digests["blake3"].encode(),
        digests["sha256"].encode(),
    )


def page(number: int, lines: bytes, *, with_files: bool = False) -> bytes:
    out = Outgoing("never", lambda: 0.0)
    out.send(Page(number, len(lines), with_files, b""))
    out.send_lines(lines)
    return b"".join(out.take())


def said(*words: Message | bytes, offer: SourceOffer | bytes = OFFER) -> Callable[[LocalLink], None]:
    """A source's end that offers, and when it is told to begin, says this; then it waits."""

    def serve(link: LocalLink) -> None:
        link.write(PREAMBLE + (offer if isinstance(offer, bytes) else frame_of(offer)))
        frames, heard = FrameDecoder(), 0
        try:
            while block := link.read():
                before, heard = heard, heard + sum(1 for _ in frames.update(block))
                if before < 2 <= heard:  # what is asked, and that it may begin
                    for word in words:
                        link.write(word if isinstance(word, bytes) else frame_of(word))
        except LinkLostError:
            return

    return serve


def test_an_honest_one_of_this_kind_is_published(bench: Bench) -> None:
    """Or the table below would show nothing."""
    whole = page(1, ROOT + lines_of(b"a", b"") + lines_of(b"b", b""))
    outcome = pull_from(bench, said(whole, SourceEnd(2, 0, {})))
    assert (outcome.acquisition, outcome.tally.manifest.contents) == (1, 2)


FILE = lines_of(b"a", b"")
FOOTER = encode_footer(ManifestTally().footer("2026-01-01T00:00:00.000000Z"))
HOSTILE: dict[str, tuple[type[EvidenceSyncError], tuple[Message | bytes, ...]]] = {
    "a header of its own": (ProtocolError, (page(0, b'{"format":"evidencesync-manifest/1"}\n'),)),
    "a second header": (ProtocolError, (page(1, b'{"format":"evidencesync-manifest/1"}\n'),)),
    "a footer of its own": (ProtocolError, (page(1, ROOT + FOOTER), SourceEnd(2, 0, {}))),
    "a manifest without anything": (ProtocolError, (SourceEnd(1, 0, {}),)),
    "a path that leads upwards": (PathEscapeError, (page(1, ROOT + lines_of(b"../a", b"")),)),
    "an absolute path": (PathEscapeError, (page(1, ROOT + lines_of(b"/etc/passwd", b"")),)),
    "a path twice": (ProtocolError, (page(1, ROOT + FILE + FILE),)),
    "lines out of order": (ProtocolError, (page(1, ROOT + lines_of(b"b", b"") + FILE),)),
    "a file in a folder that is a link": (
        ProtocolError,
        (page(1, ROOT + b'{"type":"symlink","path":"a","target":"/etc"}\n' + lines_of(b"a/b", b"")),),
    ),
    "not a line": (ProtocolError, (page(1, b"\xff\x00\n"),)),
    "control characters in an owner's name": (ProtocolError, (page(1, b'{"type":"directory","path":"","user":"\\u001b[2J"}\n'),)),
    "a wrong digest": (
        DigestMismatchError,
        (
            page(1, ROOT + lines_of(b"a", b"x", blake3="0" * 64), with_files=True),
            Files(1, 1, b"\1", 1),
            encode_frame(DATA_FRAME, b"\0\0\0\0\1x"),
        ),
    ),
    "a greeting": (ProtocolError, (Hello([1], "", "push", b"", "", 0),)),
    "a claim": (ProtocolError, (Begin(b"{}", b"", read_back=False, resumes=False, seen=0, vault_seen=0),)),
    "an end with signatures": (ProtocolError, (Finish(0, bytes(32), b"", b"{}", b"", 1),)),
    "the vault's words": (ProtocolError, (Resumed(0, 0, 0, stream_open=False, concluding=True),)),
    "that it is ready": (ProtocolError, (Ready("ana", 1, 0, None, None, 0, "vault", 0),)),
    "that it has stored": (ProtocolError, (PagesStored(1),)),
    "an offer, again": (ProtocolError, (OFFER,)),
    "more pages than it sent": (ProtocolError, (page(1, ROOT), SourceEnd(3, 0, {}))),
    "fewer pages than it sent": (ProtocolError, (page(1, ROOT), SourceEnd(1, 0, {}))),
    "the end, twice": (ProtocolError, (page(1, ROOT), SourceEnd(2, 0, {}), SourceEnd(2, 0, {}))),
    "a page after the end": (ProtocolError, (page(1, ROOT), SourceEnd(2, 0, {}), PageOffer(2, bytes(16)))),
    "a page out of turn": (ProtocolError, (page(2, ROOT),)),
    "data from nowhere": (ProtocolError, (encode_frame(DATA_FRAME, b"\0\0\0\0\1x"),)),
    "a frame beyond all bounds": (LimitExceededError, (b"\xff\xff\xff\xff\2",)),
    "an unknown message": (ProtocolError, (encode_frame(200, b""),)),
    "a malformed message": (ProtocolError, (encode_frame(73, b"\x01"),)),
    "a segment outside of a stream": (ProtocolError, (SegmentOffer(0, bytes(16), 1, b""),)),
    "a stream that it does not open": (ProtocolError, (Close(0, 0, bytes(32)),)),
    "more zeros than a file may have": (LimitExceededError, (Open(0, 10), SegmentOffer(0, bytes(16), 2**40, b""))),
    "that all is well": (PeerError, (Failure("source-unreadable", "3", None),)),
    "that the vault's chain is broken": (PeerError, (Failure("chain-broken", "put back", None),)),
    "that a signature is bad": (PeerError, (Failure("bad-signature", "x", None),)),
    "that a host key has changed": (PeerError, (Failure("host-key-changed", "x", None),)),
    "that it was published": (PeerError, (Failure("receipt-not-kept", "x", None),)),
    "an error of its own making": (PeerError, (Failure("no-such-slug", "\x1b[2J", None),)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_honest_source_says_ends_the_pull_and_publishes_nothing(bench: Bench, name: str) -> None:
    error, words = HOSTILE[name]
    with pytest.raises(error) as raised:
        pull_from(bench, said(*words))
    assert bench.acquisitions() == []
    assert raised.value.exit_code not in (0, 3, 4)
    assert "\x1b" not in raised.value.message


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"version": 2}, VersionError),
        ({"parameters": "other"}, VersionError),
        ({"host": "\x1b]0;x\x07"}, ProtocolError),
        ({"host": ""}, ProtocolError),
        ({"operating_system": "a\u202eb"}, ProtocolError),
        ({"file_system": "\n"}, ProtocolError),
        ({"path": b"evidence"}, ProtocolError),
        ({"device": {"serial": "\x1b]0;x"}}, ProtocolError),
        ({"device": {"serial": "x" * (MAX_FACT + 1)}}, ProtocolError),
        ({"device": {"Serial\u202e": "x"}}, ProtocolError),
        ({"device": {f"fact_{number}": "x" for number in range(MAX_DEVICE_FACTS + 1)}}, ProtocolError),
        ({"path": b"/a\0b"}, ProtocolError),
    ],
)
def test_an_offer_that_a_manifest_may_not_state_is_refused(
    bench: Bench, changes: dict[str, object], error: type[EvidenceSyncError]
) -> None:
    values = {name: getattr(OFFER, name) for name in OFFER.__struct_fields__} | changes
    with pytest.raises(error):
        pull_from(bench, said(page(1, ROOT), SourceEnd(2, 0, {}), offer=SourceOffer(**values)))
    assert bench.acquisitions() == []


def test_names_of_its_machine_stand_in_the_manifest_as_they_are(bench: Bench) -> None:
    values = {name: getattr(OFFER, name) for name in OFFER.__struct_fields__}
    offer = SourceOffer(**(values | {"path": b"/odd\xff\x1b", "named": b"/link\x1b[2J"}))
    pull_from(bench, said(page(1, ROOT), SourceEnd(2, 0, {}), offer=offer))
    manifest = (bench.acquisition(1) / "manifest.jsonl").read_bytes()
    assert b'"path_b64":"L29kZP8b"' in manifest
    assert b"\x1b" not in manifest


def test_one_that_goes_on_where_it_should_have_failed_publishes_nothing(bench: Bench) -> None:
    line = b'{"type":"file","path":"a","flags":["unreadable"]}\n'
    with pytest.raises(SourceGapsError):
        pull_from(bench, said(page(1, ROOT + line), SourceEnd(2, 0, {})), on_read_error="fail")
    assert bench.acquisitions() == []


def test_what_it_says_for_the_display_goes_nowhere_else(bench: Bench) -> None:
    seen = SourceSeen(2**53 - 1, 2**53 - 1, 0, 0, 0, 1, 1, b"\x1b[2J")
    outcome = pull_from(bench, said(seen, page(1, ROOT + FILE), seen, SourceEnd(2, 0, {"folder-changed-while-read": 7})))
    assert (outcome.tally.manifest.contents, outcome.tally.manifest.bytes, outcome.tally.changed_folders) == (1, 0, 7)


def test_it_is_told_nothing_of_case_item_examiner_and_session(bench: Bench) -> None:
    heard: list[bytes] = []
    (bench.source / "file").write_bytes(os.urandom(500_000))

    def serve(link: LocalLink) -> None:
        from tests.support.pulling import far_end

        read = link.read

        def overheard() -> bytes:
            block = read()
            heard.append(block)
            return block

        link.read = overheard  # type: ignore[method-assign]
        far_end(bench.source)(link)

    outcome = pull_from(bench, serve)
    everything = b"".join(heard)
    for secret in (outcome.session, bench.name.case.text, bench.name.item.text, "Ana", "ana@lab", outcome.vault_id):
        assert secret.encode() not in everything
    frames = FrameDecoder()
    said_by_us = {type(decode_message(kind, body)).__name__ for kind, body in frames.update(everything)}
    assert said_by_us <= {"SourceAsk", "Patience", "Fetch", "Alive", "PagesStored", "SegmentsStored", "Need", "Want"}


def test_an_empty_answer_is_an_end_of_the_link(bench: Bench) -> None:
    with pytest.raises(EvidenceSyncError) as raised:
        pull_from(bench, lambda link: link.close())
    assert raised.value.exit_code == 20
    with pytest.raises(LinkLostError):
        pull_from(bench, _hang_up)


def _hang_up(link: LocalLink) -> None:
    link.write(PREAMBLE + frame_of(OFFER))
    link.read()
    link.close()
