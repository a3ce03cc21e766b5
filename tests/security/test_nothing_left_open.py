"""Attack: sessions that are cut short again and again, against a server that lives for months."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest

from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.digest import blake3_of
from evidencesync.protocol.messages import Close, Open, SegmentData
from tests.support.bench_of_evidence import Bench
from tests.support.hostile_client import ROOT, HostileClient, entry_of

CONTENT = b"\1" * 200_000
Attack = Callable[[HostileClient], EvidenceSyncError]


def send_stream(client: HostileClient, number: int) -> None:
    client.send(Open(number, len(CONTENT)), SegmentData(number, struct.pack("<I", len(CONTENT)), len(CONTENT)))
    client.send_data(CONTENT)


def in_the_middle_of_a_content(client: HostileClient) -> EvidenceSyncError:
    send_stream(client, 0)
    return client.hang_up()


def with_contents_that_no_page_lists(client: HostileClient) -> EvidenceSyncError:
    for number in range(20):
        send_stream(client, number)
        client.send(Close(number, len(CONTENT), blake3_of(CONTENT)))
    client.send_bytes(b"\xff" * 5)
    return client.ended()


def with_a_content_of_another_digest(client: HostileClient) -> EvidenceSyncError:
    send_stream(client, 0)
    client.send(Close(0, len(CONTENT), bytes(32)))
    return client.ended()


def with_a_name_that_is_taken(client: HostileClient) -> EvidenceSyncError:
    send_stream(client, 0)
    client.send(Close(0, len(CONTENT), blake3_of(CONTENT)))
    client.send_manifest([ROOT, entry_of(b"a", "directory"), entry_of(b"a", content=CONTENT)])
    return client.ended()


def before_the_handshake(client: HostileClient) -> EvidenceSyncError:
    return client.hang_up()


@pytest.mark.parametrize(
    "attack",
    [
        in_the_middle_of_a_content,
        with_contents_that_no_page_lists,
        with_a_content_of_another_digest,
        with_a_name_that_is_taken,
        before_the_handshake,
    ],
    ids=lambda attack: attack.__name__,
)
def test_no_descriptor_stays_open(victim: Bench, attack: Attack) -> None:
    def run() -> None:
        client = HostileClient(victim)
        if attack is not before_the_handshake:
            client.shake_hands()
        attack(client)

    run()  # what is opened once for good
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run()
    assert len(os.listdir("/proc/self/fd")) <= before
