"""Attack: bytes that are no protocol, the wrong message, or nothing at all, at every step."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from evidencesync.errors import LinkLostError, VersionError
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.framing import DATA_FRAME, encode_frame, frame_of
from evidencesync.protocol.messages import (
    PREAMBLE,
    Failure,
    Hello,
    Message,
    PageAnswer,
    PagesStored,
    Published,
    Ready,
    SegmentsStored,
    Status,
    Welcome,
)
from evidencesync.vault.item import lock_item
from tests.support.bench_of_evidence import Bench
from tests.support.hostile_client import HostileClient
from tests.support.patience import PATIENCE_SECONDS

Step = Callable[[HostileClient], object]


def nothing(client: HostileClient) -> None:
    """Not even the preamble."""


def the_preamble(client: HostileClient) -> None:
    client.send_bytes(PREAMBLE)


def half_a_preamble(client: HostileClient) -> None:
    client.send_bytes(PREAMBLE[:7])


def the_hello(client: HostileClient) -> None:
    client.hello()


def half_a_hello(client: HostileClient) -> None:
    client.send_bytes(PREAMBLE + b"\0\0\0\x40\x0a\x96")


def the_handshake(client: HostileClient) -> None:
    client.shake_hands()


def a_header_and_half_a_frame(client: HostileClient) -> None:
    client.shake_hands()
    client.send_bytes(b"\0\0\x01\x00\x02half")


STEPS: list[Step] = [
    nothing,
    half_a_preamble,
    the_preamble,
    half_a_hello,
    the_hello,
    the_handshake,
    a_header_and_half_a_frame,
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_an_end_of_the_stream_after_any_step_is_a_lost_link(victim: Bench, step: Step) -> None:
    client = HostileClient(victim)
    step(client)
    assert client.hang_up().exit_code is ExitCode.LINK_LOST


def test_silence_before_the_proof_of_a_key_holds_no_lock(victim: Bench) -> None:
    """Whoever cannot sign may connect and be silent, and nobody waits for him."""
    clients = [HostileClient(victim) for _ in STEPS[:5]]
    for client, step in zip(clients, STEPS[:5], strict=True):
        step(client)
    with lock_item(victim.vault.item(victim.name)):
        pass
    for client in clients:
        client.hang_up()


def test_a_silent_session_ends_when_its_link_does(victim: Bench) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    threading.Timer(0.2, client.link.close).start()
    assert isinstance(client.ended(), LinkLostError)


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(200_000)


GARBAGE = {
    "noise": noise(1),
    "noise of zeros": bytes(200_000),
    "a frame of 4 GiB": b"\xff\xff\xff\xff\x0a",
    "a frame of a byte more than is allowed": (2**20 + 1).to_bytes(4, "big") + b"\x0a",
    "an unknown type": encode_frame(99, b"x"),
    "type 0": encode_frame(0),
    "an empty hello": encode_frame(10),
    "a hello that is a map": encode_frame(10, b"\x80"),
    "a hello with 4 billion versions": encode_frame(10, b"\x96\xdd\xff\xff\xff\xff"),
    "a hello that is nested": encode_frame(10, b"\x91" * 100_000),
    "data": encode_frame(DATA_FRAME, b"\0\0\0\0\1x"),
    "empty data": encode_frame(DATA_FRAME),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("step", [the_preamble, the_hello, the_handshake], ids=lambda step: step.__name__)
def test_garbage_ends_the_session(victim: Bench, step: Step, garbage: bytes) -> None:
    client = HostileClient(victim)
    step(client)
    client.send_bytes(garbage)
    assert client.ended().exit_code is ExitCode.PEER


def test_a_client_that_never_says_the_preamble_is_not_listened_to_for_long(victim: Bench) -> None:
    client = HostileClient(victim)
    client.send_bytes(b"GET / HTTP/1.1\r\n" * 2000)
    assert client.ended().exit_code is ExitCode.PEER


OUT_OF_PLACE: list[Message] = [
    Ready("x", 1, 0, None, None, 0, "case", 0),
    Welcome(1, "x", "0" * 32, b"", bytes(32), "x", 0),
    Published(1, b"", b"", b"", b"", 0, repeated=False),
    Status("syncing", 0, 0),
    PageAnswer(0, known=True),
    PagesStored(0),
    SegmentsStored(0),
    Hello([1], "x", "push", b"", "x", 0),
]


@pytest.mark.parametrize("message", OUT_OF_PLACE, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("step", [the_hello, the_handshake], ids=lambda step: step.__name__)
def test_a_message_that_only_the_vault_says_ends_the_session(victim: Bench, step: Step, message: Message) -> None:
    client = HostileClient(victim)
    step(client)
    client.send(message)
    assert client.ended().exit_code is ExitCode.PEER


def test_a_version_that_is_not_spoken_here_is_said_so(victim: Bench) -> None:
    client = HostileClient(victim)
    with pytest.raises(VersionError):
        client.hello(versions=[2, 77])
    assert client.ended().exit_code is ExitCode.CONNECT


def test_a_build_whose_handshake_has_other_fields_is_of_another_version_and_not_hostile(victim: Bench) -> None:
    """Before the first release Begin had five fields, then four, and Patience two."""
    for number, fields in ((10, 5), (12, 5), (12, 4), (4, 2)):
        client = HostileClient(victim)
        client.hello()
        client.send_bytes(encode_frame(number, bytes([0x90 | fields]) + b"\xc0" * fields))
        assert client.ended().exit_code is ExitCode.CONNECT
    client = HostileClient(victim)
    client.hello()
    client.send_bytes(encode_frame(12, b"\x96" + b"\xc0" * 6))  # as many as are known, of which none is right
    assert client.ended().exit_code is ExitCode.PEER


@pytest.mark.parametrize("path", [b"/", b"", b"\0", b"/etc", b"~root", b"/" * 60_000, b"relative/\xff", b"/dev/stdin"])
def test_a_path_in_the_hello_opens_no_other_vault(victim: Bench, path: bytes) -> None:
    client = HostileClient(victim)
    if path.strip(b"/"):
        with pytest.raises(Exception, match="another vault"):
            client.hello(vault=path)
        assert client.ended().exit_code is ExitCode.NOT_THERE
    elif len(path) < 2:
        assert client.hello(vault=path).vault_id == victim.vault.settings.id
        client.hang_up()
    else:
        client.send_bytes(b"")
        client.hang_up()


def test_what_a_client_says_when_it_gives_up_is_shown_safely(victim: Bench) -> None:
    for step in (the_preamble, the_hello, the_handshake):
        client = HostileClient(victim)
        step(client)
        client.send(Failure("interrupted", "gone \x1b[2J\u202e", "hint \x07\x1b]0;owned\x07"))
        error = client.ended()
        assert error.message == "gone \\x1b[2J\\u202e"
        assert error.hint == "hint \\x07\\x1b]0;owned\\x07"


@pytest.mark.parametrize("slug", ["no-such-slug", "", "\x1b[2J", "internal-error"])
def test_an_unknown_reason_to_give_up_is_a_peer_error(victim: Bench, slug: str) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    client.send(Failure(slug, "x", None))
    assert client.ended().exit_code in {ExitCode.PEER, ExitCode.INTERNAL}


def test_nothing_is_left_running_after_sessions_that_were_cut_short(victim: Bench) -> None:
    """Each session reads ahead in a thread of its own; a server that lives for months must not collect them."""
    before = threading.active_count()
    for _ in range(3):
        client = HostileClient(victim)
        client.send_bytes(PREAMBLE + encode_frame(99))
        while client.send_bytes(frame_of(Status("syncing", 0, 0)) * 20_000):
            pass
        client.ended()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() <= before
