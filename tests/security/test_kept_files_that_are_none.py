"""Attack: a sender with a trusted key says that contents are those of the previous acquisition, and they are not."""

from __future__ import annotations

import os

import pytest

from evidencesync.errors import EvidenceSyncError, LimitExceededError, PathEscapeError, ProtocolError
from evidencesync.evidence.digest import Blake3Digest, blake3_of
from evidencesync.limits import MAX_UNLISTED_CONTENTS
from evidencesync.protocol.messages import Alive, Close, Kept, KeptLost, Open
from tests.support.bench_of_evidence import Bench
from tests.support.hostile_client import ROOT, HostileClient, assert_unharmed, entry_of, snapshot

LARGE = b"large" * 60_000
DIGEST = blake3_of(LARGE)
SIZE = len(LARGE)


@pytest.fixture
def pushed(bench: Bench) -> Bench:
    """A vault that has two large files of the item, and a small one."""
    for name in ("a", "b"):
        (bench.source / name).write_bytes(LARGE)
    (bench.source / "small").write_bytes(b"small")
    bench.push()
    return bench


def ended_with(bench: Bench, *messages: Kept | Open | Close) -> EvidenceSyncError:
    """What a session ends with in which these were said."""
    before = snapshot(bench.source.parent)
    client = HostileClient(bench)
    client.shake_hands()
    client.send(*messages)
    error = client.ended()
    assert_unharmed(bench, before)
    return error


@pytest.mark.parametrize(
    "lie",
    [
        Kept(0, SIZE, DIGEST, b"there/is/none"),
        Kept(0, SIZE, DIGEST, b"small"),
        Kept(0, SIZE + 1, DIGEST, b"a"),
        Kept(0, SIZE, Blake3Digest(bytes(32)), b"a"),
    ],
)
def test_what_is_not_there_as_it_is_said_is_not_taken(lie: Kept, pushed: Bench) -> None:
    client = HostileClient(pushed)
    client.shake_hands()
    client.send(lie)
    assert client.hear(KeptLost).stream == 0
    client.hang_up()
    assert pushed.acquisitions() == ["0001"]


def test_nothing_is_taken_where_there_is_no_previous_acquisition(bench: Bench) -> None:
    client = HostileClient(bench)
    client.shake_hands()
    client.send(Kept(0, SIZE, DIGEST, b"a"))
    assert client.hear(KeptLost).stream == 0
    client.hang_up()
    assert bench.acquisitions() == []


def test_who_goes_on_after_that_gets_nothing_published_and_one_answer_alone(pushed: Bench) -> None:
    client = HostileClient(pushed)
    client.shake_hands()
    client.send(Kept(0, SIZE, DIGEST, b"gone"), Kept(1, SIZE, DIGEST, b"none"))
    manifest = client.send_manifest([ROOT, entry_of(b"gone", content=LARGE), entry_of(b"none", content=LARGE)])
    client.send(client.finish(manifest), Alive())
    client.hang_up()
    assert pushed.acquisitions() == ["0001"]


@pytest.mark.parametrize("path", [b"../a", b"x/../../a", b"/etc/passwd", b"a/", b"."])
def test_a_path_that_leaves_is_refused(path: bytes, pushed: Bench) -> None:
    assert isinstance(ended_with(pushed, Kept(0, SIZE, DIGEST, path)), PathEscapeError)


def test_a_link_that_somebody_put_into_the_vault_is_not_followed(pushed: Bench) -> None:
    folder = pushed.acquisition(1) / "data"
    (pushed.source.parent / "outside").write_bytes(LARGE)
    folder.chmod(0o755)
    os.symlink(pushed.source.parent / "outside", folder / "link")
    client = HostileClient(pushed)
    client.shake_hands()
    client.send(Kept(0, SIZE, DIGEST, b"link"))
    assert client.hear(KeptLost).stream == 0
    client.hang_up()


@pytest.mark.parametrize(
    "messages",
    [
        [Kept(0, SIZE, DIGEST, b"a"), Kept(1, SIZE, DIGEST, b"a")],
        [Kept(0, SIZE, DIGEST, b"b"), Kept(1, SIZE, DIGEST, b"a")],
        [Kept(1, SIZE, DIGEST, b"a")],
        [Open(0, SIZE), Kept(0, SIZE, DIGEST, b"a")],
        [Open(0, SIZE), Kept(1, SIZE, DIGEST, b"a")],
        [Kept(0, SIZE, DIGEST, b"a"), Open(0, SIZE)],
        [Kept(0, SIZE, DIGEST, b"a"), Close(0, SIZE, DIGEST)],
    ],
)
def test_one_that_comes_twice_or_out_of_order_ends_the_session(messages: list[Kept | Open | Close], pushed: Bench) -> None:
    assert isinstance(ended_with(pushed, *messages), ProtocolError)


def test_endless_ones_end_the_session(pushed: Bench) -> None:
    names = [b"%06d" % number for number in range(MAX_UNLISTED_CONTENTS + 5000)]
    assert isinstance(
        ended_with(pushed, *(Kept(number, SIZE, DIGEST, name) for number, name in enumerate(names))), LimitExceededError
    )


def test_a_manifest_that_lists_another_content_than_was_kept_is_refused(pushed: Bench) -> None:
    before = snapshot(pushed.source.parent)
    client = HostileClient(pushed)
    client.shake_hands()
    client.send(Kept(0, SIZE, DIGEST, b"a"))
    client.send_manifest([ROOT, entry_of(b"a", content=LARGE, sha256="00" * 32)])
    assert "not the one that the manifest lists" in client.ended().message
    assert_unharmed(pushed, before)


@pytest.mark.parametrize("read_in", [2, 3, 9999])
def test_a_file_that_was_read_in_no_earlier_acquisition_is_refused(read_in: int, pushed: Bench) -> None:
    before = snapshot(pushed.source.parent)
    client = HostileClient(pushed)
    client.shake_hands()
    client.send_manifest([ROOT, entry_of(b"small", content=b"small", read_in=read_in)], contents=[b"small"])
    assert "cannot have been" in client.ended().message
    assert_unharmed(pushed, before)
