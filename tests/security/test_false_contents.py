"""Attack: bytes that are not those that the manifest lists, more of them, fewer of them, or none."""

from __future__ import annotations

import struct
from collections.abc import Callable

import msgspec
import pytest

from evidencesync.custody.manifest import encode_entry_lines
from evidencesync.evidence.digest import blake3_of, chunk_digest_of
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.messages import ChunkData, Chunks, Close, Files, Need, Open, SegmentData
from evidencesync.protocol.packing import pack_bits
from tests.support.bench_of_evidence import Bench
from tests.support.hostile_client import ROOT, HostileClient, entry_of

TOLD, SENT = b"\1" * 200_000, b"\2" * 200_000
Attack = Callable[[HostileClient], object]


def segment(number: int, data: bytes) -> SegmentData:
    return SegmentData(number, struct.pack("<I", len(data)), len(data))


def header_page(client: HostileClient) -> None:
    client.send_page(0, msgspec.json.encode(client.header()) + b"\n")


def listing(client: HostileClient, *entries: object) -> bytes:
    return b"".join(line for entry in entries for line in encode_entry_lines(entry))  # type: ignore[arg-type]


def small_file_of_other_bytes(client: HostileClient) -> None:
    client.send_manifest([ROOT, entry_of(b"f", content=b"told")], [b"sent"])


def small_file_of_other_size(client: HostileClient) -> None:
    client.send_manifest([ROOT, entry_of(b"f", content=b"told")], [b"longer than told"])


def small_file_cut_off(client: HostileClient) -> None:
    client.send_manifest([ROOT, entry_of(b"f", content=b"told")], [b"t"])


def empty_file_with_a_digest_of_something(client: HostileClient) -> None:
    client.send_manifest([ROOT, entry_of(b"f", content=b"told", size=0)])


def sha256_of_something_else(client: HostileClient) -> None:
    manifest = client.send_manifest([ROOT, entry_of(b"f", content=b"told", sha256="0" * 64)], [b"told"])
    client.send(client.finish(manifest))


def sha256_of_something_else_in_a_large_file(client: HostileClient) -> None:
    client.send(Open(0, len(TOLD)), segment(0, TOLD))
    client.send_data(TOLD)
    client.send(Close(0, len(TOLD), blake3_of(TOLD)))
    client.send(client.finish(client.send_manifest([ROOT, entry_of(b"f", content=TOLD, sha256="0" * 64)])))


def stream_of_other_bytes(client: HostileClient) -> None:
    client.send(Open(0, len(TOLD)), segment(0, SENT))
    client.send_data(SENT)
    client.send(Close(0, len(TOLD), blake3_of(TOLD)))


def stream_that_closes_short(client: HostileClient) -> None:
    client.send(Open(0, len(TOLD)), segment(0, SENT))
    client.send_data(SENT)
    client.send(Close(0, len(SENT) - 1, blake3_of(SENT)))


def listed_with_another_size(client: HostileClient) -> None:
    client.send(Open(0, len(SENT)), segment(0, SENT))
    client.send_data(SENT)
    client.send(Close(0, len(SENT), blake3_of(SENT)))
    client.send_manifest([ROOT, entry_of(b"f", content=SENT, size=len(SENT) + 1)])


def chunk_of_other_bytes(client: HostileClient) -> None:
    client.send(Open(0, len(TOLD)), Chunks(0, struct.pack("<I16s", len(TOLD), chunk_digest_of(TOLD))))
    assert client.hear(Need).missing == b"\1"
    client.send(ChunkData(0, len(SENT)))
    client.send_data(SENT)


MISMATCHES: list[Attack] = [
    small_file_of_other_bytes,
    empty_file_with_a_digest_of_something,
    sha256_of_something_else,
    sha256_of_something_else_in_a_large_file,
    stream_of_other_bytes,
    stream_that_closes_short,
    listed_with_another_size,
    chunk_of_other_bytes,
]


@pytest.mark.parametrize("attack", MISMATCHES, ids=lambda attack: attack.__name__)
def test_bytes_that_are_not_those_of_their_digest_end_the_session(victim: Bench, attack: Attack) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    attack(client)
    assert client.ended().exit_code is ExitCode.DIGEST


def more_data_than_was_announced(client: HostileClient) -> None:
    client.send(Open(0, 1000), segment(0, b"x" * 100))
    client.send_data(b"x" * 101)


def data_that_nobody_announced(client: HostileClient) -> None:
    client.send_data(b"x")


def data_after_all_that_was_announced(client: HostileClient) -> None:
    client.send(Open(0, 1000), segment(0, b"x" * 100))
    client.send_data(b"x" * 100)
    client.send_data(b"x")


def rows_that_do_not_add_up(client: HostileClient) -> None:
    client.send(Open(0, 1000), SegmentData(0, struct.pack("<II", 50, 60), 100))


def a_chunk_in_two_frames(client: HostileClient) -> None:
    client.send(Open(0, 200_000), segment(0, b"x" * 200_000))
    client.send_data(b"x" * 100_000)
    client.send_data(b"x" * 100_000)


def a_message_in_the_middle_of_data(client: HostileClient) -> None:
    client.send(Open(0, 1000), segment(0, b"x" * 100), Close(0, 100, blake3_of(b"x" * 100)))


def other_chunks_than_those_that_were_needed(client: HostileClient) -> None:
    client.send(Open(0, len(TOLD)), Chunks(0, struct.pack("<I16s", len(TOLD), chunk_digest_of(TOLD))))
    client.hear(Need)
    client.send(ChunkData(0, 5))


def chunks_that_nobody_needed(client: HostileClient) -> None:
    client.send(ChunkData(0, 5))


def files_that_nobody_wanted(client: HostileClient) -> None:
    header_page(client)
    client.send_page(1, listing(client, ROOT, entry_of(b"f", content=b"told")))
    client.send(Files(0, 1, pack_bits([True]), 4))


def files_of_a_page_that_is_not_there(client: HostileClient) -> None:
    client.send(Files(7, 1, pack_bits([True]), 4))


def files_that_do_not_fit_their_page(client: HostileClient) -> None:
    client.send_manifest([ROOT, entry_of(b"f", content=b"told")], [b"told", b"more"])


def a_file_whose_content_was_not_sent(client: HostileClient) -> None:
    client.send_manifest([ROOT, entry_of(b"f", content=TOLD)])


def a_file_that_uses_a_content_twice(client: HostileClient) -> None:
    client.send(Open(0, len(TOLD)), segment(0, TOLD))
    client.send_data(TOLD)
    client.send(Close(0, len(TOLD), blake3_of(TOLD)))
    client.send_manifest([ROOT, entry_of(b"f", content=TOLD), entry_of(b"g", content=TOLD)])


DISORDER: list[Attack] = [
    small_file_of_other_size,
    small_file_cut_off,
    more_data_than_was_announced,
    data_that_nobody_announced,
    data_after_all_that_was_announced,
    rows_that_do_not_add_up,
    a_chunk_in_two_frames,
    a_message_in_the_middle_of_data,
    other_chunks_than_those_that_were_needed,
    chunks_that_nobody_needed,
    files_that_nobody_wanted,
    files_of_a_page_that_is_not_there,
    files_that_do_not_fit_their_page,
    a_file_whose_content_was_not_sent,
    a_file_that_uses_a_content_twice,
]


@pytest.mark.parametrize("attack", DISORDER, ids=lambda attack: attack.__name__)
def test_data_that_does_not_fit_what_was_said_ends_the_session(victim: Bench, attack: Attack) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    attack(client)
    assert client.ended().exit_code is ExitCode.PEER
