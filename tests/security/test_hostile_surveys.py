"""The source's end of a pull that is only planned may be a suspect's machine, too: what it names is checked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.acquire.dry_run import DryRun, survey
from evidencesync.acquire.far_survey import FarSurvey
from evidencesync.connection.link import LocalLink
from evidencesync.delta.refine import DELTA_PARAMETERS
from evidencesync.errors import EvidenceSyncError, LinkLostError, PeerError, ProtocolError, VersionError
from evidencesync.limits import MAX_SURVEYED
from evidencesync.protocol import framing
from evidencesync.protocol.framing import FrameDecoder, decode_message, frame_of
from evidencesync.protocol.messages import PREAMBLE, Failure, Message, Status
from evidencesync.protocol.pull_messages import SourceEnd, SourceOffer, SurveyedEntry, SurveyEnd, SurveyPage
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import resolve_source
from tests.support.pulling import FarEnd, far_end, link_to

OFFER = SourceOffer(1, "1", DELTA_PARAMETERS, 0, "host", "system", b"/evidence", b"/evidence", None, None, None)
ROOT: SurveyedEntry = (b"", "directory", None, "1.000000000", None, None)


def file(path: bytes, flag: str | None = None, rule: int | None = None) -> SurveyedEntry:
    return path, "file", 1, "1.000000000", flag, rule  # type: ignore[return-value]


def said(*words: Message | bytes) -> FarEnd:
    """A source's end that offers, says this when it is asked, and hangs up."""

    def serve(link: LocalLink) -> None:
        link.write(PREAMBLE)
        frames = FrameDecoder()
        while not list(frames.update(link.read())):
            pass
        for word in (OFFER, *words):
            link.write(word if isinstance(word, bytes) else frame_of(word))
        link.close()

    return serve


def surveyed(serve: FarEnd, rules: FilterRules | None = None) -> DryRun:
    seen = DryRun()
    far = FarSurvey(link_to(serve), b"", rules or FilterRules.none(), 60.0)
    try:
        for _ in far.entries(seen):
            pass
    finally:
        far.close()
    return seen


def test_an_honest_one_finds_what_a_look_from_here_finds(tmp_path: Path) -> None:
    """More entries than one message holds, odd names, filters."""
    for number in range(MAX_SURVEYED + 7):
        (tmp_path / f"{number:04}").write_bytes(b"x" * (number % 5))
    (tmp_path / "logs").mkdir()
    os.symlink("nowhere", tmp_path / "link")
    with open(os.fsencode(tmp_path) + b"/odd\xff\x1b\n", "wb"):
        pass
    rules = FilterRules.from_patterns(["logs/", "0001"], max_size=3)
    near, far = DryRun(), DryRun()
    here = list(survey(resolve_source(os.fsencode(tmp_path)), rules, near))
    session = FarSurvey(link_to(far_end(tmp_path)), b"", rules, 60.0)
    assert list(session.entries(far)) == here
    session.close()
    assert (far.files, far.size, far.left_out, far.tally.flagged) == (near.files, near.size, near.left_out, near.tally.flagged)


HOSTILE: dict[str, tuple[type[EvidenceSyncError], tuple[Message | bytes, ...]]] = {
    "nothing at all": (ProtocolError, (SurveyEnd({}),)),
    "a path that leads upwards": (ProtocolError, (SurveyPage([ROOT, file(b"../a")], None),)),
    "an absolute path": (ProtocolError, (SurveyPage([ROOT, file(b"/etc/passwd")], None),)),
    "a path twice": (ProtocolError, (SurveyPage([ROOT, file(b"a"), file(b"a")], None),)),
    "entries out of order": (ProtocolError, (SurveyPage([ROOT, file(b"b")], None), SurveyPage([file(b"a")], None))),
    "a rule that nobody gave": (ProtocolError, (SurveyPage([ROOT, file(b"a", "skipped", 1)], None),)),
    "a rule for what is not left out": (ProtocolError, (SurveyPage([ROOT, file(b"a", None, 0)], None),)),
    "an end of another kind": (ProtocolError, (SurveyPage([ROOT], None), SourceEnd(1, 0, {}))),
    "a vault's word": (ProtocolError, (Status("receiving", 0, 0),)),
    "data": (ProtocolError, (framing.encode_frame(framing.DATA_FRAME, b"\0\0\0\0\1x"),)),
    "a failure that no source can have": (PeerError, (Failure("rolled-back", "\x1b[2J", None),)),
    "a failure that would look like success": (PeerError, (Failure("none", "", None),)),
    "the source described twice": (
        ProtocolError,
        (SurveyPage([ROOT], ("1", "2", "3.000000000")), SurveyPage([file(b"a")], ("1", "2", "3.000000000"))),
    ),
    "no end": (LinkLostError, (SurveyPage([ROOT], None),)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_honest_source_says_ends_the_look(name: str) -> None:
    error, words = HOSTILE[name]
    with pytest.raises(error) as raised:
        surveyed(said(*words), FilterRules.from_patterns(["x"]))
    assert raised.value.exit_code not in (0, 3, 4)
    assert "\x1b" not in raised.value.message


def test_one_that_does_not_know_the_question_is_of_another_version_and_has_read_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(serve: FarEnd) -> Callable[[LocalLink], None]:
        def decode(number: int, body: bytes | memoryview) -> Message:
            if number == 75:
                raise ProtocolError(f"unknown message type {number}")
            return decode_message(number, body)

        monkeypatch.setattr("evidencesync.connection.inbox.decode_message", decode)
        return serve

    with pytest.raises(VersionError) as raised:
        FarSurvey(link_to(older(far_end(tmp_path))), b"", FilterRules.none(), 60.0)
    assert "--agentless" in (raised.value.hint or "")
