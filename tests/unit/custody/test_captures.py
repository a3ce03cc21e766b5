"""What a manifest may say of a capture: its rules, and its words."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.custody.captures import check_capture, lacking_words, origin_words
from evidencesync.custody.entries import FieldRules, decode_run
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.capture import Capture
from evidencesync.evidence.entry import Entry

STARTED, ENDED = "2026-11-28T12:00:00.000000Z", "2026-11-28T12:00:01.000000Z"
PRINTED = Capture("standard-output", STARTED, ENDED, "end-of-data", shell_command="avml /dev/stdout", exit_status=0)
GIVEN = Capture("standard-input", STARTED, ENDED, "end-of-data")


def entry(capture: Capture | None, **fields: object) -> Entry:
    made = Entry("file", "memory.lime", size=3, blake3="0" * 64, sha256="1" * 64, capture=capture)
    return msgspec.structs.replace(made, **fields)


def changed(capture: Capture, **fields: object) -> Capture:
    return msgspec.structs.replace(capture, **fields)


@pytest.mark.parametrize("capture", [PRINTED, GIVEN, changed(PRINTED, shell_command=None, arguments=["avml", "/dev/stdout"])])
def test_a_capture_that_came_whole_needs_no_flag(capture: Capture) -> None:
    rules = FieldRules()
    (line,) = decode_run(msgspec.json.encode(entry(capture)) + b"\n", 0)
    assert isinstance(line, Entry)
    rules.admit(line, single=True)
    assert line.capture == capture
    assert lacking_words(capture, 3) == ""


NOT_WHOLE = {
    "idle": (changed(GIVEN, end="idle"), "nothing more came, and it was ended"),
    "lost": (changed(PRINTED, end="link-lost", exit_status=None), "the SSH connection was lost"),
    "left": (
        changed(PRINTED, end="left-open"),
        "the command was over, and something that it had started kept its output open",
    ),
    "interrupted": (changed(GIVEN, end="interrupted"), "a person has ended it"),
    "refused": (changed(GIVEN, end="read-error"), "the system would not read on"),
    "failed": (changed(PRINTED, exit_status=3), "the command ended with exit status 3"),
    "killed": (changed(PRINTED, exit_status=None, signal=9), "the command was ended by signal 9"),
    "unknown": (changed(PRINTED, exit_status=None), "it is not known how the command ended"),
    "short": (changed(GIVEN, expected_bytes=4096), "4,096 bytes were expected, and 3 came"),
    "long": (changed(GIVEN, expected_bytes=2), "2 bytes were expected, and 3 came"),
    "dropped": (changed(PRINTED, source="standard-error", dropped_bytes=1000), "1,000 more bytes were not kept"),
}


@pytest.mark.parametrize("name", NOT_WHOLE)
def test_what_did_not_come_whole_is_flagged_or_refused(name: str) -> None:
    capture, words = NOT_WHOLE[name]
    assert lacking_words(capture, 3) == words
    with pytest.raises(MalformedDocumentError, match="did not come whole"):
        check_capture(entry(capture), capture)
    with pytest.raises(MalformedDocumentError, match="did not come whole"):
        check_capture(entry(capture, flags=["changed-while-read"]), capture)
    check_capture(entry(capture, flags=["unreadable"]), capture)


def test_what_a_failed_command_said_of_it_came_whole() -> None:
    said = changed(PRINTED, source="standard-error", exit_status=1)
    check_capture(entry(said), said)


REFUSED = {
    "of a folder": entry(PRINTED, type="directory", size=None, blake3=None, sha256=None),
    "of a link": entry(PRINTED, type="symlink", size=None, blake3=None, sha256=None, target="x"),
    "without content": entry(PRINTED, blake3=None, sha256=None, flags=["unreadable"]),
    "ended before it began": entry(changed(PRINTED, started=ENDED, ended=STARTED)),
    "a day that is none": entry(changed(PRINTED, ended="2026-02-30T12:00:00.000000Z")),
    "input of a command": entry(changed(GIVEN, shell_command="x")),
    "input with an exit status": entry(changed(GIVEN, exit_status=0)),
    "input with a signal": entry(changed(GIVEN, signal=9, end="idle"), flags=["unreadable"]),
    "output of nothing": entry(changed(PRINTED, shell_command=None)),
    "output of two commands": entry(changed(PRINTED, arguments=["x"])),
    "a command that paints": entry(changed(PRINTED, shell_command="a\x1b[31mb")),
    "a word of two lines": entry(changed(PRINTED, shell_command=None, arguments=["a", "b\nc"])),
    "too many letters": entry(changed(PRINTED, shell_command=None, arguments=["a" * 3000, "b" * 3000])),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_signer_writes_of_a_capture_is_refused(name: str) -> None:
    with pytest.raises(MalformedDocumentError):
        FieldRules().admit(REFUSED[name], single=True)


@pytest.mark.parametrize(
    ("field", "value"), [("end", "well"), ("exit_status", -1), ("signal", 0), ("arguments", []), ("more", 1)]
)
def test_a_capture_with_other_values_cannot_be_decoded(field: str, value: object) -> None:
    line = json.loads(msgspec.json.encode(entry(PRINTED)))
    line["capture"][field] = value
    with pytest.raises(MalformedDocumentError):
        decode_run(json.dumps(line, separators=(",", ":")).encode() + b"\n", 0)


@pytest.mark.hypothesis
@given(st.sampled_from([one for one, _ in NOT_WHOLE.values()] + [PRINTED, GIVEN]), st.integers(0, 2**53 - 1))
def test_whole_and_without_words_are_the_same(capture: Capture, size: int) -> None:
    assert capture.is_whole(size) == (lacking_words(capture, size) == "")


def test_where_it_came_from_is_said_as_it_was_given() -> None:
    assert origin_words(GIVEN) == "standard input"
    assert origin_words(PRINTED) == "standard output of: avml /dev/stdout"
    words = changed(PRINTED, source="standard-error", shell_command=None, arguments=["cat", "a b"])
    assert origin_words(words) == "standard error of: cat 'a b'"
