from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from evidencesync.cli.outputs import PushOutput
from evidencesync.cli.summary import Detail, push_lines, push_output, verdict_of
from evidencesync.custody.documents import Earlier
from evidencesync.evidence.entry import Entry, Flag
from evidencesync.localstate.receipts import FinishedReceipt
from evidencesync.protocol.messages import Changes
from evidencesync.ssh.address import Address
from tests.unit.cli.outcomes import make_outcome, make_request

_NEXT = "evidencesync verify /srv/vault --case '2024/17 ü' --item L-1"
EVIL = b"bad\x1b[31m\xff[bold]\n"


def _lines(*flagged: tuple[bytes, Flag], vault: str = "/srv/vault", read_back: bool = True, detail: Detail = "summary") -> str:
    outcome = make_outcome(*flagged, read_back=read_back)
    kept = FinishedReceipt(Path("/receipts/x"), None)
    return "\n".join(push_lines(outcome, make_request(), Address.parse(vault), kept, detail=detail, following=_NEXT))


@pytest.mark.parametrize(
    ("flags", "verdict"),
    [
        ((), "complete"),
        (("skipped",), "complete"),
        (("changed-while-read", "skipped"), "source-changed"),
        (("unreadable",), "gaps"),
        (("vanished",), "gaps"),
        (("changed-while-read", "unreadable"), "gaps"),
    ],
)
def test_the_worst_flag_decides_and_what_a_filter_left_out_is_none(flags: tuple[Flag, ...], verdict: str) -> None:
    outcome = make_outcome(*((b"f", flag) for flag in flags))
    assert verdict_of(outcome) == verdict
    assert push_output(outcome, FinishedReceipt(Path("/r"), None)).verdict == verdict


def test_the_summary_says_what_an_examiner_notes_down_in_six_lines() -> None:
    text = _lines()
    for part in (
        "2024/17 ü / L-1, acquisition 3: published, complete",
        "2 files, 1.0 MB",
        "not sent     150.0 kB of zeros and holes, 750.0 kB that the vault had\n",
        "120.0 kB (12.0 %) in 2.0 s, start to receipt; read back from the vault's disk",
        "0123 4567 89ab cdef 0123",
        "evidencesync verify /srv/vault --case '2024/17 ü' --item L-1",
    ):
        assert part in text
    assert len(text.splitlines()) == 6


def test_more_is_said_to_whom_asks_for_it() -> None:
    text = _lines(detail="everything")
    for part in (
        "750.0 kB (75.0 %) was in this case already, or came before, 150.0 kB are zeros",
        "80.0 kB written, 300.0 kB linked (1 file), 620.0 kB reflinked (1 file), zeros included",
        "500.0 kB/s",
        "c" * 64,
        "/receipts/x",
    ):
        assert part in text
        assert part not in _lines()


def test_one_line_says_the_verdict_and_hides_no_warning() -> None:
    text = _lines((b"a", "unreadable"), detail="one line")
    assert text == "2024/17 ü / L-1, acquisition 3: published, WITH GAPS; fingerprint 0123 4567 89ab cdef 0123"
    damaged = msgspec.structs.replace(make_outcome(), damaged=2)
    kept = FinishedReceipt(Path("/r"), None)
    _, warning = push_lines(damaged, make_request(), Address.parse("/v"), kept, detail="one line", following=_NEXT)
    assert warning.startswith("  WARNING      2 files of earlier acquisitions damaged")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (None, "it could not be compared with acquisition 2"),
        (Changes(0, 0, 0, 0, 0, 0), "something differs that is not counted"),
        (Changes(0, 0, 0, 1, 0, 0), None),
    ],
)
def test_whoever_wanted_no_unchanged_acquisition_is_told_why_there_is_one(changes: Changes | None, said: str | None) -> None:
    outcome, kept = msgspec.structs.replace(make_outcome(), changes=changes, literal_bytes=0), FinishedReceipt(Path("/r"), None)
    request = msgspec.structs.replace(make_request(), skip_unchanged=True)
    text = "\n".join(push_lines(outcome, request, Address.parse("/v"), kept, following=_NEXT))
    assert ("although --skip-unchanged was given" in text) == (said is not None)
    assert said is None or said in text
    first = "\n".join(
        push_lines(msgspec.structs.replace(outcome, acquisition=1), request, Address.parse("/v"), kept, following=_NEXT)
    )
    assert "--skip-unchanged" not in first


def test_that_the_vault_had_lost_what_is_unchanged_is_why_it_was_published() -> None:
    outcome = msgspec.structs.replace(make_outcome(), changes=Changes(0, 0, 0, 0, 0, 0), literal_bytes=1)
    request = msgspec.structs.replace(make_request(), skip_unchanged=True)
    text = "\n".join(push_lines(outcome, request, Address.parse("/v"), FinishedReceipt(Path("/r"), None), following=_NEXT))
    assert "not all of what acquisition 2 has could be found in the vault" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (None, None),
        (Changes(0, 0, 0, 0, 0, 0), "nothing changed since acquisition 2"),
        (Changes(2, 0, 1, 1, 0, 0), "since acquisition 2: 2 added, 1 changed, 1 moved"),
        (Changes(0, 1234, 0, 0, 5, 0), "since acquisition 2: 1,234 removed, other attributes of 5"),
        (Changes(1, 0, 0, 0, 0, 3), "since acquisition 2: 1 added, 3 left out of one of both by a filter"),
        (Changes(200_000, 1, None, 0, 0, 0), "since acquisition 2: 200,000 added, 1 removed, moves not looked for"),
    ],
)
def test_what_has_changed_is_said_in_a_few_words(changes: Changes | None, said: str | None) -> None:
    outcome = msgspec.structs.replace(make_outcome(), changes=changes)
    text = "\n".join(push_lines(outcome, make_request(), Address.parse("/v"), FinishedReceipt(Path("/r"), None), following=_NEXT))
    assert ("acquisition 2" in text) == (said is not None)
    assert said is None or f"  evidence     2 files, 1.0 MB; {said}\n" in text


def test_what_was_compressed_or_had_to_travel_whole_is_said_so() -> None:
    outcome = msgspec.structs.replace(make_outcome(), literal_bytes=1_000_000, zero_bytes=0, reused_bytes=0)
    text = "\n".join(push_lines(outcome, make_request(), Address.parse("/v"), FinishedReceipt(Path("/r"), None), following=_NEXT))
    assert "  travelled    120.0 kB (12.0 %), compressed, in 2.0 s, start to receipt; " in text
    assert "not sent" not in text


def test_what_was_sent_twice_after_a_lost_link_is_not_said_to_be_compressed() -> None:
    """25.2 MB of random bytes were queued twice in part, and travelled as 30."""
    outcome = make_outcome()
    bytes_once = outcome.tally.manifest.bytes
    outcome = msgspec.structs.replace(
        outcome, literal_bytes=bytes_once * 2, zero_bytes=0, reused_bytes=0, wire_sent=bytes_once + 1, interruptions=1
    )
    text = "\n".join(push_lines(outcome, make_request(), Address.parse("/v"), FinishedReceipt(Path("/r"), None), following=_NEXT))
    assert "compressed" not in text


def test_a_push_without_read_back_says_so_loudly() -> None:
    assert "NOT read back from the vault's disk" in _lines(read_back=False)


def test_flagged_paths_are_shown_safely_and_the_first_twenty_of_them() -> None:
    text = _lines((EVIL, "unreadable"), *((b"f%d" % n, "vanished") for n in range(30)), (b"left", "skipped"))
    assert "WITH GAPS" in text
    assert r"unreadable: bad\x1b[31m\xff[bold]" in text
    assert "\x1b" not in text
    assert text.count("    vanished: ") == 19
    assert "and 11 more" in text
    assert "skipped: " not in text
    assert "1 entry left out by a filter" in text


def test_the_document_keeps_the_exact_bytes_of_a_path() -> None:
    output = push_output(make_outcome((EVIL, "unreadable"), (b"plain", "vanished")), FinishedReceipt(Path("/r"), None))
    document = msgspec.to_builtins(output)
    assert document["flags"] == {"unreadable": 1, "vanished": 1}
    assert document["flagged"] == [
        {"flag": "unreadable", "path": None, "path_b64": "YmFkG1szMW3/W2JvbGRdCg=="},
        {"flag": "vanished", "path": "plain", "path_b64": None},
    ]


def test_many_of_one_kind_do_not_hide_another() -> None:
    text = _lines(
        *((b"v%d" % n, "vanished") for n in range(30)),
        *((b"u%d" % n, "unreadable") for n in range(30)),
        (b"c", "changed-while-read"),
    )
    shown = [line.split(": ")[1] for line in text.splitlines() if line.startswith("    ") and " more: " not in line]
    assert shown == [*(f"u{n}" for n in range(14)), *(f"v{n}" for n in range(5)), "c"]
    assert "and 41 more" in text


def test_bytes_that_could_not_be_read_are_told_from_what_was_delivered() -> None:
    outcome = make_outcome((b"disk.img", "unreadable"))
    outcome.tally.bad_bytes, outcome.tally.bad_ranges, outcome.tally.partial, outcome.tally.read_again = 1536, 2, 1, 3
    text = "\n".join(
        push_lines(outcome, make_request(), Address.parse("/srv/vault"), FinishedReceipt(Path("/r"), None), following=_NEXT)
    )
    assert "1.5 kB in 2 ranges of 1 file could not be read: the digests are of what stands there instead" in text
    assert "files that had changed were read again 3 times" in text
    output = push_output(outcome, FinishedReceipt(Path("/r"), None))
    assert (output.bad_bytes, output.bad_ranges, output.partial, output.read_again) == (1536, 2, 1, 3)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, None), (4.9, None), (-4.9, None), (5.5, "5.5 s ahead of"), (-7300, "2 h 01 min behind")],
)
def test_a_vault_whose_clock_is_off_by_more_than_a_few_seconds_is_said_to_be(seconds: float, said: str | None) -> None:
    outcome = make_outcome(clock_offset_ns=round(seconds * 1e9))
    text = "\n".join(
        push_lines(outcome, make_request(), Address.parse("/v"), FinishedReceipt(Path("/receipts/x"), None), following=_NEXT)
    )
    assert ("the vault's clock is" in text) == (said is not None)
    assert said is None or f"the vault's clock is {said} this machine's" in text
    assert push_output(outcome, FinishedReceipt(Path("/r"), None)).vault_clock_ahead_seconds == seconds


def test_a_pulled_machine_whose_clock_is_off_is_said_to_be() -> None:
    outcome = make_outcome(source_clock_offset_ns=-7_300_000_000_000)
    text = "\n".join(
        push_lines(
            outcome, make_request(), Address.parse("/v"), FinishedReceipt(Path("/receipts/x"), None), pulled=True, following=_NEXT
        )
    )
    assert "the source's clock is 2 h 01 min behind this machine's" in text
    assert "the vault's clock is" not in text
    assert push_output(outcome, FinishedReceipt(Path("/r"), None)).source_clock_ahead_seconds == -7300
    assert push_output(make_outcome(), FinishedReceipt(Path("/r"), None)).source_clock_ahead_seconds is None


@pytest.mark.parametrize(
    ("lost", "earlier", "said"),
    [
        (0, 0, None),
        (2, 0, "the link was lost 2 times"),
        (0, 1, "the vault had kept data of 1 unfinished attempt, and used what fitted"),
    ],
)
def test_only_the_interruptions_that_there_were_are_told(lost: int, earlier: int, said: str | None) -> None:
    outcome = msgspec.structs.replace(make_outcome(), interruptions=lost, leftovers=earlier)
    lines = list(push_lines(outcome, make_request(), Address.parse("/v"), FinishedReceipt(Path("/r"), None), following=_NEXT))
    assert [line[15:] for line in lines if line.startswith(("  interrupted", "  resumed"))] == ([said] if said else [])


def test_what_was_not_read_again_is_said_and_why_everything_was() -> None:
    kept = FinishedReceipt(Path("/receipts/x"), None)

    def said(why: str | None) -> tuple[list[str], PushOutput]:
        outcome = msgspec.structs.replace(make_outcome(), why_all_read=why)
        if why is None:
            outcome.tally.manifest.add(Entry("file", "k", size=500, blake3="ab" * 32, sha256="cd" * 32, read_in=1))
        lines = push_lines(outcome, make_request(), Address.parse("/srv/vault"), kept, following=_NEXT)
        return [line for line in lines if "read" in line.split()[:2] or "--quick" in line], push_output(outcome, kept)

    lines, document = said(None)
    assert lines == [
        "  not read     1 of 3 files (500 B) was not read again: its content is as it was read in acquisition 1 or later"
    ]
    assert document.earlier == Earlier(1, 500, 1)
    lines, document = said("the vault lacks something")
    assert lines == ["  note         everything was read although --quick was given: the vault lacks something"]
    assert (document.earlier, document.why_all_read) == (None, "the vault lacks something")
