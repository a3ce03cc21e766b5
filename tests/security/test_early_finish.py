"""Attack: the end is announced before everything was sent, so that less is published than was signed."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from evidencesync.custody.manifest import encode_entry_lines
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.messages import Files, Message, Open, Page, PageAnswer, PageOffer, SegmentOffer, Want
from tests.support.bench_of_evidence import Bench
from tests.support.hostile_client import ROOT, HostileClient, entry_of

Attack = Callable[[HostileClient], int]


def at_once(client: HostileClient) -> int:
    return 0


def after_the_header(client: HostileClient) -> int:
    client.send_page(0, msgspec.json.encode(client.header()) + b"\n")
    return 1


def without_the_footer(client: HostileClient) -> int:
    client.send_page(0, msgspec.json.encode(client.header()) + b"\n")
    client.send_page(1, msgspec.json.encode(ROOT) + b"\n")
    return 2


def with_another_number_of_pages(client: HostileClient) -> int:
    client.send_manifest([ROOT])
    return 4


def with_a_page_only_named(client: HostileClient) -> int:
    client.send(PageOffer(0, bytes(16)))
    client.hear(PageAnswer)
    return 1


def with_a_page_only_announced(client: HostileClient) -> int:
    client.send(Page(0, 10, with_files=False, proofs=b""))
    return 1


def with_a_small_file_missing(client: HostileClient) -> int:
    client.send_manifest([ROOT, entry_of(b"f", content=b"x")])
    client.hear(Want)
    return 3


def with_files_promised_that_do_not_come(client: HostileClient) -> int:
    client.send_page(0, msgspec.json.encode(client.header()) + b"\n")
    (line,) = encode_entry_lines(entry_of(b"f", content=b"x"))
    client.send_page(1, msgspec.json.encode(ROOT) + b"\n" + line, contents=[b"x"], with_files=False)
    return 2


def with_an_open_stream(client: HostileClient) -> int:
    client.send_manifest([ROOT])
    client.send(Open(0, 100))
    return 3


def with_an_open_segment(client: HostileClient) -> int:
    client.send(Open(0, 100), SegmentOffer(0, bytes(16), 100, b""))
    client.send_manifest([ROOT])
    return 3


def with_a_footer_that_counts_less(client: HostileClient) -> int:
    client.send_page(0, msgspec.json.encode(client.header()) + b"\n")
    client.send_page(1, msgspec.json.encode(ROOT) + b"\n")
    client.send_page(2, b'{"counts":{},"flags":{},"bytes":0,"finished":"2026-01-02T03:04:05.000000Z"}\n')
    return 3


WAITED_FOR: list[Attack] = [with_a_page_only_named, with_a_small_file_missing, with_files_promised_that_do_not_come]
"""What was asked for may come after the end, as it does when the question and the end have met on the way."""

ATTACKS: list[Attack] = [
    at_once,
    after_the_header,
    without_the_footer,
    with_another_number_of_pages,
    with_a_page_only_announced,
    with_an_open_stream,
    with_an_open_segment,
    with_a_footer_that_counts_less,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_the_end_before_the_end_publishes_nothing(victim: Bench, attack: Attack) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    pages = attack(client)
    client.send(client.finish(b"whatever", pages=pages))
    assert client.ended().exit_code in {ExitCode.PEER, ExitCode.SIGNATURE}


@pytest.mark.parametrize("attack", WAITED_FOR, ids=lambda attack: attack.__name__)
@pytest.mark.parametrize("more", [PageOffer(9, bytes(16)), Page(9, 10, with_files=False, proofs=b""), Open(0, 100), "the end"])
def test_after_the_end_nothing_new_begins(victim: Bench, attack: Attack, more: Message | str) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    pages = attack(client)
    end = client.finish(b"whatever", pages=pages)
    if isinstance(more, PageOffer | Page):
        more = msgspec.structs.replace(more, number=pages)
    client.send(end, end if isinstance(more, str) else more)
    assert client.ended().exit_code is ExitCode.PEER


@pytest.mark.parametrize("attack", WAITED_FOR, ids=lambda attack: attack.__name__)
def test_the_end_without_what_was_asked_for_publishes_nothing(victim: Bench, attack: Attack) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    pages = attack(client)
    client.send(client.finish(b"whatever", pages=pages))
    assert client.hang_up().exit_code in {ExitCode.LINK_LOST, ExitCode.PEER}


def test_a_file_that_comes_after_the_end_counts_and_the_end_is_then_looked_at(victim: Bench) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    pages = with_a_small_file_missing(client)
    client.send(client.finish(b"whatever", pages=pages), Files(1, 1, b"\1", 1))
    client.send_data(b"x")
    assert client.ended().exit_code is ExitCode.DIGEST  # everything is there, and the manifest is not the one that was signed


@pytest.mark.parametrize("attack", [*ATTACKS, *WAITED_FOR], ids=lambda attack: attack.__name__)
def test_a_client_that_goes_away_publishes_nothing(victim: Bench, attack: Attack) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    attack(client)
    assert client.hang_up().exit_code in {ExitCode.LINK_LOST, ExitCode.PEER, ExitCode.SIGNATURE}
