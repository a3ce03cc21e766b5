"""Attack: a vault's end that speaks nonsense to whoever pushes into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidencesync.errors import EvidenceSyncError, LinkLostError, PeerError, SignatureError
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.failures import all_errors
from evidencesync.protocol.framing import DATA_FRAME, encode_frame, frame_of
from evidencesync.protocol.messages import (
    PREAMBLE,
    Alike,
    Begin,
    Changes,
    Close,
    Failure,
    Finish,
    Hello,
    Message,
    Need,
    Page,
    PageAnswer,
    PageOffer,
    PagesStored,
    Previous,
    Published,
    Ready,
    SegmentAnswer,
    SegmentData,
    SegmentsStored,
    Status,
    Want,
    Withdraw,
)
from evidencesync.protocol.packing import pack_bits
from tests.support.bench_of_evidence import Bench, make_bench, new_signer
from tests.support.hostile_vault import MadeUpVault, push_to

PUBLISHED = Published(1, b"", b"", b"", b"", 0, repeated=False)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = make_bench(tmp_path)
    (bench.source / "small").write_bytes(b"small")
    (bench.source / "large").write_bytes(b"\1" * 300_000)
    return bench


FIRST_WORDS = {
    "a shell that says no": (b"bash: evidencesync: command not found\n", ExitCode.CONNECT),
    "nothing": (b"", ExitCode.CONNECT),
    "another program": (b"SSH-2.0-OpenSSH_9.2\r\n" * 2000, ExitCode.CONNECT),
    "noise": (bytes(range(256)) * 100, ExitCode.CONNECT),
    "another version's preamble": (PREAMBLE.replace(b"1", b"9"), ExitCode.CONNECT),
    "a frame of 4 GiB": (PREAMBLE + b"\xff\xff\xff\xff\x0b", ExitCode.PEER),
    "an unknown type": (PREAMBLE + encode_frame(99), ExitCode.PEER),
    "data": (PREAMBLE + encode_frame(DATA_FRAME, b"\0\0\0\0\1x"), ExitCode.PEER),
    "a malformed message": (PREAMBLE + encode_frame(11, b"\x97"), ExitCode.PEER),
    "an introduction with fields that nobody knows": (PREAMBLE + encode_frame(11, b"\x98" + b"\xc0" * 8), ExitCode.CONNECT),
    "that it knows another Hello": (
        PREAMBLE + frame_of(Failure("protocol-violation", "a Hello message is malformed", None)),
        ExitCode.CONNECT,
    ),
    "that a Page is malformed": (
        PREAMBLE + frame_of(Failure("protocol-violation", "a Page message is malformed", None)),
        ExitCode.PEER,
    ),
    "the end at once": (PREAMBLE, ExitCode.LINK_LOST),
    "the end in a frame": (PREAMBLE + b"\0\0\0\x09\x0bhalf", ExitCode.LINK_LOST),
    "acknowledged at once": (PREAMBLE + frame_of(PUBLISHED), ExitCode.PEER),
    "ready at once": (PREAMBLE + frame_of(Ready("x", 1, 0, None, None, 0, "case", 0)), ExitCode.PEER),
}


@pytest.mark.parametrize("words", FIRST_WORDS)
def test_other_first_words_than_a_vaults_end_the_push(bench: Bench, words: str) -> None:
    said, code = FIRST_WORDS[words]

    def script(vault: MadeUpVault) -> None:
        vault.link.write(said)
        if code is not ExitCode.PEER:
            vault.link.close()

    with pytest.raises(EvidenceSyncError) as caught:
        push_to(bench, script)
    assert caught.value.exit_code is code


def test_what_a_shell_says_in_place_of_a_vault_is_shown_safely(bench: Bench) -> None:
    def script(vault: MadeUpVault) -> None:
        vault.link.write(b"\x1b]0;owned\x07 \xff\r\n\x9b2J not found")
        vault.link.close()

    with pytest.raises(EvidenceSyncError) as caught:
        push_to(bench, script)
    assert caught.value.exit_code is ExitCode.CONNECT
    assert all(character.isprintable() for character in caught.value.message)
    assert "not found" in caught.value.message


INTRODUCTIONS: list[dict[str, Any]] = [
    {"vault_key": b""},
    {"vault_key": b"\0" * 100},
    {"vault_key": b"\xff" * 16_384},
    {"vault_id": ""},
    {"vault_id": "../../etc"},
    {"vault_id": "0" * 31 + "\x1b"},
    {"vault_id": "0" * 256},
]


@pytest.mark.parametrize("changes", INTRODUCTIONS, ids=lambda changes: repr(changes)[:40])
def test_a_vault_that_introduces_itself_as_nothing_known_gets_no_signature(bench: Bench, changes: dict[str, Any]) -> None:
    got: list[Message] = []

    def script(vault: MadeUpVault) -> None:
        vault.welcome(**changes)
        got.append(vault.hear(Begin))

    with pytest.raises(PeerError):
        push_to(bench, script)
    assert got == []


@pytest.mark.parametrize("changes", [{"version": 2}, {"parameters": "others/2"}])
def test_another_version_is_refused(bench: Bench, changes: dict[str, Any]) -> None:
    with pytest.raises(EvidenceSyncError) as caught:
        push_to(bench, lambda vault: vault.welcome(**changes))
    assert caught.value.exit_code is ExitCode.CONNECT


STATES: list[dict[str, Any]] = [
    {"acquisition": 0},
    {"acquisition": 2**32 - 1},
    {"acquisition": 10_000},
    {"acquisition": 2},  # and no manifest before it
    {"chain_head_sha256": bytes(32)},  # and no chain
    {"chain_sequence": 1},  # and no head
    {"acquisition": 1, "previous_manifest_sha256": bytes(32)},
    {"chain_sequence": 2**32 - 1, "chain_head_sha256": bytes(32)},
    {"chain_sequence": 999_998, "chain_head_sha256": bytes(32)},
    {"principal": ""},
    {"principal": "\x1b[2J"},
    {"principal": "x" * 250},
]


@pytest.mark.parametrize("changes", STATES, ids=repr)
def test_a_state_of_the_item_that_cannot_be_is_not_signed(bench: Bench, changes: dict[str, Any]) -> None:
    """Whatever is signed could be shown to a court: not even a nonsense that the vault asks for."""
    got: list[Message] = []

    def script(vault: MadeUpVault) -> None:
        vault.ready(**changes)
        vault.hear(Hello)
        vault.say(PagesStored(0))
        got.append(vault.hear(Finish))

    with pytest.raises(PeerError):
        push_to(bench, script)
    assert got == []


@pytest.mark.parametrize(
    "message", [Previous(b"{}", b"{}"), Alike(["x"], []), Changes(0, 0, 0, 0, 0, 0)], ids=lambda message: type(message).__name__
)
def test_what_a_vault_says_once_may_not_be_said_for_ever(bench: Bench, message: Message) -> None:
    """Else a vault could keep an examiner waiting, and say something all the time."""

    def script(vault: MadeUpVault) -> None:
        if isinstance(message, Previous | Alike):
            vault.welcome()
        else:
            vault.ready()
            vault.hear(Finish)
        vault.say(message, message)

    with pytest.raises(PeerError):
        push_to(bench, script)


def test_a_number_that_no_vault_can_have_is_not_shown(bench: Bench) -> None:
    def script(vault: MadeUpVault) -> None:
        vault.welcome()
        vault.say(Alike(["LAPTOP\x1b[2J"], []), Ready("ana", 1, 0, None, None, 0, "case", 0))

    with pytest.raises(PeerError):
        push_to(bench, script)


NOT_TO_A_SENDER: list[Message] = [
    Hello([1], "x", "push", b"", "x", 0),
    Ready("x", 1, 0, None, None, 0, "case", 0),
    Begin(b"", b"", read_back=True, resumes=False, seen=0, vault_seen=0),
    PageOffer(0, bytes(16)),
    Page(0, 1, with_files=False, proofs=b""),
    SegmentData(0, b"\1\0\0\0", 1),
    Close(0, 0, bytes(32)),
    PUBLISHED,
    Previous(b"{}", b"{}"),
    Alike([], []),
    Withdraw(),
]
NOT_OPEN: list[Message] = [
    PageAnswer(99, known=True),
    PageAnswer(2**32 - 1, known=False),
    Want(99, 1, b"\1"),
    PagesStored(99),
    PagesStored(2**32 - 1),
    SegmentAnswer(99, known=False),
    SegmentAnswer(2**32 - 1, known=True),
    Need(99, 1, b"\1", b""),
    SegmentsStored(99),
    SegmentsStored(2**32 - 1),
]


@pytest.mark.parametrize("message", NOT_TO_A_SENDER + NOT_OPEN, ids=lambda message: f"{type(message).__name__}-{message}"[:60])
def test_an_answer_to_what_was_not_asked_ends_the_push(bench: Bench, message: Message) -> None:
    def script(vault: MadeUpVault) -> None:
        vault.ready()
        vault.hear(Page)
        vault.say(message)
        vault.hear(Finish)

    with pytest.raises((PeerError, SignatureError)):  # an acknowledgement may come after Finish, and then it is checked
        push_to(bench, script)


def wants_too_many(vault: MadeUpVault, page: int) -> None:
    vault.say(Want(page, 3, b"\7"))


def wants_none_of_none(vault: MadeUpVault, page: int) -> None:
    vault.say(Want(page, 0, b""))


def wants_with_bits_beyond_the_end(vault: MadeUpVault, page: int) -> None:
    vault.say(Want(page, 1, b"\3"))


def wants_with_a_long_bitmap(vault: MadeUpVault, page: int) -> None:
    vault.say(Want(page, 1, b"\1\0"))


def needs_too_many(vault: MadeUpVault, page: int) -> None:
    vault.say(Need(0, 512, pack_bits([True] * 512), b""))


def needs_none_of_none(vault: MadeUpVault, page: int) -> None:
    vault.say(Need(0, 0, b"", b""))


def answers_twice(vault: MadeUpVault, page: int) -> None:
    vault.say(PageAnswer(page, known=False))


def answers_a_segment_that_was_sent(vault: MadeUpVault, page: int) -> None:
    vault.say(SegmentAnswer(0, known=True))


def stores_backwards(vault: MadeUpVault, page: int) -> None:
    vault.say(PagesStored(1), PagesStored(0))


WRONG_COUNTS: list[Callable[[MadeUpVault, int], None]] = [
    wants_too_many,
    wants_none_of_none,
    wants_with_bits_beyond_the_end,
    wants_with_a_long_bitmap,
    needs_too_many,
    needs_none_of_none,
    answers_twice,
    answers_a_segment_that_was_sent,
    stores_backwards,
]


@pytest.mark.parametrize("attack", WRONG_COUNTS, ids=lambda attack: attack.__name__)
def test_counts_that_do_not_fit_end_the_push(bench: Bench, attack: Callable[[MadeUpVault, int], None]) -> None:
    def script(vault: MadeUpVault) -> None:
        vault.ready()
        vault.hear(SegmentData)
        page = vault.hear(Page)
        assert isinstance(page, Page)
        attack(vault, page.number)
        vault.hear(Finish)

    with pytest.raises(PeerError):
        push_to(bench, script)


def test_what_a_vault_says_when_it_gives_up_is_shown_safely(bench: Bench) -> None:
    def script(vault: MadeUpVault) -> None:
        vault.ready()
        vault.say(Failure("no-space", "full \x1b[2J\x9b31m\u202e", "\x07\r\n\x1b]0;owned\x07"))

    with pytest.raises(EvidenceSyncError) as caught:
        push_to(bench, script)
    assert caught.value.exit_code is ExitCode.NO_SPACE
    for text in (caught.value.message, caught.value.hint or ""):
        assert text
        assert all(character.isprintable() for character in text)


@pytest.mark.parametrize("slug", ["no-such-slug", "", "complete", "\x1b[2J", "NO-SPACE", "no-space "])
def test_an_unknown_reason_is_a_peer_error(bench: Bench, slug: str) -> None:
    def script(vault: MadeUpVault) -> None:
        vault.ready()
        vault.say(Failure(slug, "x", None))

    with pytest.raises(PeerError):
        push_to(bench, script)


@pytest.mark.parametrize("slug", sorted({error.slug for error in all_errors()}))
def test_no_reason_of_a_vault_looks_like_an_acquisition_that_was_published(bench: Bench, slug: str) -> None:
    """3 and 4 tell a script that everything is in the vault, but for what could not be read."""

    def script(vault: MadeUpVault) -> None:
        vault.ready()
        vault.say(Failure(slug, "x", None))

    with pytest.raises(EvidenceSyncError) as caught:
        push_to(bench, script)
    assert caught.value.exit_code not in {ExitCode.COMPLETE, ExitCode.GAPS, ExitCode.SOURCE_CHANGED}


OURS_ALONE = """authentication dropped forked host-key-changed host-key-unknown no-remote no-room-to-remember receipt-not-kept
remembered-heads rolled-back""".split()


@pytest.mark.parametrize("slug", OURS_ALONE)
def test_what_only_this_machine_can_know_is_no_vaults_to_say(bench: Bench, slug: str) -> None:
    """Or one word of a vault would make this end accuse another host key, or say that something was published."""

    def script(vault: MadeUpVault) -> None:
        vault.ready()
        vault.say(Failure(slug, "x", None))

    with pytest.raises(PeerError):
        push_to(bench, script)


def test_a_vault_that_falls_silent_is_given_up(bench: Bench) -> None:
    def script(vault: MadeUpVault) -> None:
        vault.ready()
        vault.hear(Page)

    with pytest.raises(LinkLostError, match="silent"):
        push_to(bench, script, timeout_seconds=0.5)


def test_a_vault_that_only_ever_says_that_it_works_has_published_nothing(bench: Bench) -> None:
    def script(vault: MadeUpVault) -> None:
        vault.ready()
        for _ in range(1000):
            vault.say(Status("publishing", 2**53 - 1, 0))

    with pytest.raises(LinkLostError, match="silent"):
        push_to(bench, script, timeout_seconds=0.5)


def test_a_key_is_never_asked_to_sign_for_another_vault_than_it_was_told(bench: Bench) -> None:
    """A relay that passes a real vault's nonce on under its own key gets a signature that names its own key."""
    other = new_signer()
    got: list[Message] = []

    def script(vault: MadeUpVault) -> None:
        vault.welcome(vault_key=other.public_key.blob)
        got.append(vault.hear(Begin))
        vault.link.close()

    with pytest.raises(LinkLostError):
        push_to(bench, script)
    (begin,) = got
    assert isinstance(begin, Begin)
    assert other.public_key.fingerprint.encode() in begin.claim
    assert bench.vault.signer.public_key.fingerprint.encode() not in begin.claim
