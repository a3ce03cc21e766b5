"""Attack: twenty bytes that stand for a gigabyte of zeros, which the vault would have to hash."""

from __future__ import annotations

import struct
import time

import pytest

from evidencesync.delta.rows import ZERO_DIGEST
from evidencesync.exit_codes import ExitCode
from evidencesync.limits import MAX_FILE_SIZE, MAX_ZERO_EXTENT
from evidencesync.protocol.messages import Chunks, Open, SegmentAnswer, SegmentData, SegmentOffer
from evidencesync.protocol.packing import ZERO_BIT
from tests.support.bench_of_evidence import Bench
from tests.support.hostile_client import HostileClient

GIB = MAX_ZERO_EXTENT
ROW_OF_ZEROS = struct.pack("<I16s", GIB, ZERO_DIGEST)


@pytest.fixture
def client(victim: Bench) -> HostileClient:
    client = HostileClient(victim)
    client.shake_hands()
    return client


def test_a_stream_is_not_longer_than_it_was_announced(client: HostileClient) -> None:
    client.send(Open(0, GIB - 1), SegmentData(0, struct.pack("<I", ZERO_BIT | GIB), 0))
    assert client.ended().exit_code is ExitCode.PEER


def test_a_list_of_chunks_is_not_longer_than_its_stream(client: HostileClient) -> None:
    client.send(Open(0, GIB - 1), Chunks(0, ROW_OF_ZEROS))
    assert client.ended().exit_code is ExitCode.PEER


def test_a_named_segment_is_not_longer_than_its_stream(client: HostileClient) -> None:
    client.send(Open(0, GIB - 1), SegmentOffer(0, bytes(16), GIB, b""))
    assert client.ended().exit_code is ExitCode.PEER


@pytest.mark.parametrize("said", [0, 1, GIB - 1])
def test_a_segment_is_not_longer_than_it_was_said_to_be_when_it_was_named(client: HostileClient, said: int) -> None:
    client.send(Open(0, GIB), SegmentOffer(0, bytes(16), said, b""))
    assert not client.hear(SegmentAnswer).known
    client.send(Chunks(0, ROW_OF_ZEROS))
    assert client.ended().exit_code is ExitCode.PEER


def test_small_segments_do_not_add_up_to_more_than_their_stream(client: HostileClient) -> None:
    client.send(Open(0, 150_000))
    client.send(*(SegmentData(number, struct.pack("<I", ZERO_BIT | 65_536), 0) for number in range(3)))
    assert client.ended().exit_code is ExitCode.PEER


@pytest.mark.parametrize("row", [ZERO_BIT, ZERO_BIT | (GIB + 1), ZERO_BIT | (ZERO_BIT - 1), 0, 262_145, ZERO_BIT - 1])
def test_no_row_is_longer_than_a_sender_can_make_it(client: HostileClient, row: int) -> None:
    client.send(Open(0, MAX_FILE_SIZE), SegmentData(0, struct.pack("<I", row), 0))
    assert client.ended().exit_code is ExitCode.PEER


def test_one_message_does_not_stand_for_half_a_tebibyte(client: HostileClient) -> None:
    began = time.process_time()
    client.send(Open(0, MAX_FILE_SIZE), SegmentData(0, struct.pack("<I", ZERO_BIT | GIB) * 512, 0))
    assert client.ended().exit_code is ExitCode.PEER
    assert time.process_time() - began < 5


def test_a_list_does_not_stand_for_half_a_tebibyte_either(client: HostileClient) -> None:
    client.send(Open(0, MAX_FILE_SIZE), Chunks(0, ROW_OF_ZEROS * 512))
    assert client.ended().exit_code is ExitCode.PEER


def test_zeros_count_against_the_window(client: HostileClient) -> None:
    """While one segment waits, no more than a window's worth of zeros is taken on for later."""
    client.send(Open(0, MAX_FILE_SIZE), Chunks(0, struct.pack("<I16s", 65_536, b"\1" * 16)))
    for number in range(1, 200):
        client.send(SegmentData(number, struct.pack("<I", ZERO_BIT | GIB), 0))
    assert client.ended().exit_code is ExitCode.PEER
