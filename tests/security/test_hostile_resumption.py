"""Attack: senders that lose their link on purpose, and strangers who come to a session's door."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading

import msgspec
import pytest

from evidencesync.connection import session_socket
from evidencesync.custody.manifest import encode_entry
from evidencesync.errors import EvidenceSyncError, LimitExceededError, LinkLostError
from evidencesync.evidence.digest import chunk_digest_of
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import Alive, Files, Page, PageOffer
from evidencesync.protocol.packing import pack_bits
from tests.support.bench_of_evidence import Bench, new_signer
from tests.support.hostile_client import ROOT, HostileClient, data_frame, entry_of
from tests.support.patience import PATIENCE_SECONDS

KIB = 1024
CONTENTS = [bytes([number]) * (128 * KIB) for number in range(147)]


def begun(bench: Bench) -> HostileClient:
    """A session that waits for its sender when the link is lost."""
    client = HostileClient(bench, may_reconnect=True)
    client.shake_hands()
    client.send(Alive())  # who has sent nothing is not waited for
    return client


def assert_free(bench: Bench) -> None:
    """Whoever comes next gets the item at once."""
    client = HostileClient(bench)
    client.shake_hands()
    assert isinstance(client.hang_up(), LinkLostError)


def test_a_sender_cannot_fill_one_window_after_the_other_by_losing_its_link(bench: Bench) -> None:
    first = client = begun(bench)
    client.send_page(0, msgspec.json.encode(first.header()) + b"\n")
    # The first page lacks one file for ever, so that no page after it can be stored.
    lacked = [ROOT, entry_of(b"p0", "directory"), entry_of(b"p0/lacked", content=CONTENTS[0])]
    pages = [b"".join(map(encode_entry, lacked))]
    client.send_page(1, pages[0])
    for _ in range(5):
        for _ in range(3):
            send_full_page(client, pages)
        client.link.close()
        client = HostileClient(bench, session=first.session)
        try:
            client.resume()
        except EvidenceSyncError:
            break
        client.send(*[PageOffer(number, chunk_digest_of(lines)) for number, lines in enumerate(pages, start=1)])
    assert isinstance(first.ended(), LimitExceededError)
    assert_free(bench)


def send_full_page(client: HostileClient, pages: list[bytes]) -> None:
    """A page with 18 MiB of small files."""
    number = len(pages) + 1
    entries = [entry_of(f"p{number}".encode(), "directory")]
    entries += [entry_of(f"p{number}/{at:03}".encode(), content=content) for at, content in enumerate(CONTENTS)]
    pages.append(b"".join(map(encode_entry, entries)))
    client.send_bytes(frame_of(Page(number, len(pages[-1]), with_files=True, proofs=b"")) + data_frame(pages[-1]))
    client.send(Files(number, len(CONTENTS), pack_bits([True] * len(CONTENTS)), sum(map(len, CONTENTS))))
    for start in range(0, len(CONTENTS), 7):
        client.send_data(b"".join(CONTENTS[start : start + 7]))


def test_another_examiner_who_claims_a_session_does_not_get_it(bench: Bench) -> None:
    mine = begun(bench)
    stranger_key = new_signer()
    bench.vault.trust.add(stranger_key.public_key, "eve@lab")
    stranger = HostileClient(dataclasses.replace(bench, signer=stranger_key), session=mine.session)
    with pytest.raises(EvidenceSyncError, match="being written by another process"):
        stranger.resume()
    assert mine.error is None
    mine.link.close()
    back = HostileClient(bench, session=mine.session)
    assert back.resume().pages == 0
    back.link.close()
    assert_free(bench)


def test_a_session_that_waits_ends_when_its_staging_folder_is_removed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_socket, "_POLL_SECONDS", 0.05)
    waiting, wait = threading.Event(), session_socket.SessionSocket.wait

    def wait_and_say_so(self: session_socket.SessionSocket, seconds: float) -> session_socket.SocketLink | None:
        waiting.set()
        return wait(self, seconds)

    monkeypatch.setattr(session_socket.SessionSocket, "wait", wait_and_say_so)
    client = begun(bench)
    client.link.close()
    assert waiting.wait(PATIENCE_SECONDS)
    shutil.rmtree(bench.vault.layout.item(bench.name).incoming / client.session)
    assert isinstance(client.ended(), LinkLostError)
    assert_free(bench)


def test_a_sender_that_comes_back_hundreds_of_times_costs_nothing_that_stays(bench: Bench) -> None:
    first = begun(bench)
    client = first
    before = (0, 0)
    for number in range(120):
        client.link.close()
        client = HostileClient(bench, session=first.session)
        client.resume()
        if number == 20:
            before = len(os.listdir("/proc/self/fd")), threading.active_count()
    after = len(os.listdir("/proc/self/fd")), threading.active_count()
    assert after[0] <= before[0] + 8  # what is just ending
    assert after[1] <= before[1] + 8
    client.link.close()
    assert_free(bench)
    assert isinstance(first.ended(), LinkLostError)
