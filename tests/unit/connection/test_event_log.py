"""An event is one line of JSON, whatever names and texts it quotes: bounded, in ASCII, and read back as it was."""

from __future__ import annotations

import base64
import json

import pytest

from evidencesync.connection.event_log import NO_EVENTS, Events
from evidencesync.errors import PeerError
from evidencesync.evidence.entry import Entry
from evidencesync.limits import MAX_LOG_LINE, MAX_PATH
from tests.integration.cli_program import schema_errors
from tests.support.kept_events import KeptEvents

ODD_NAMES = [
    b"line\nbreak",
    b'quote"and\\backslash',
    b"\x1b[2J\x07",
    b"carriage\rreturn",
    "line\u2028separator\u2029".encode(),
    "\u202egpj.exe".encode(),
    b"not \xff UTF-8 \xc3",
    b'"},{"event":"published"}',
    "\U0001f600 grün".encode(),
    b"x" * MAX_PATH,
    "é".encode() * 1200,
    b"\xff" * 2400,
]


@pytest.fixture
def kept() -> KeptEvents:
    return KeptEvents()


def require_a_line(line: bytes) -> None:
    assert len(line) <= MAX_LOG_LINE
    assert line.isascii()
    assert line.decode().isprintable()
    assert schema_errors(json.loads(line), "log-event") == []


@pytest.mark.parametrize("name", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_a_name_cannot_leave_its_field(kept: KeptEvents, name: bytes) -> None:
    events = Events(kept, "vault", case="C", item="I", session="0" * 32)
    events.entry("new", name, Entry("file", size=1))
    events.flag(name, "unreadable")
    for line in kept.lines:
        require_a_line(line)
    for event in kept.events:
        assert (event["case"], event["item"]) == ("C", "I")
        if "cut" not in event:
            path = event["path"].encode() if "path" in event else base64.b64decode(event["path_b64"])
            assert path == name


@pytest.mark.parametrize("text", [name.decode("utf-8", "replace") for name in ODD_NAMES], ids=range(len(ODD_NAMES)))
def test_what_a_peer_says_cannot_leave_its_field(kept: KeptEvents, text: str) -> None:
    events = Events(kept, "push", peer=text, principal=text, case=text, item=text, what=text, vault=text)
    events.refuse(PeerError(text))
    for line in kept.lines:
        require_a_line(line)
    assert [(event["event"], event["code"]) for event in kept.events] == [("refused", 40), ("ended", 40)]


def test_what_is_known_more_exactly_is_said_of_what_follows(kept: KeptEvents) -> None:
    events = Events(kept, "push", case="C")
    events.about(session="s", acquisition=2).record("resumed")
    events.record("link-lost")
    assert [(event["event"], event.get("acquisition"), event["case"]) for event in kept.events] == [
        ("resumed", 2, "C"),
        ("link-lost", None, "C"),
    ]


def test_entries_are_told_once_where_the_vault_is_in_this_process(kept: KeptEvents) -> None:
    here = Events(kept, "pull", reads=False)
    here.read(b"a", Entry("file", size=1))
    here.about(session="s").read(b"a", Entry("file", size=1))
    here.flag(b"b", "skipped")
    here.of_vault().entry("linked", b"a", Entry("file", size=1))
    Events(kept, "push").read(b"a", Entry("file", size=1))
    assert [(event["role"], event["event"], event.get("kind")) for event in kept.events] == [
        ("pull", "skipped", None),
        ("vault", "entry", "linked"),
        ("push", "entry", "read"),
    ]


def test_an_entry_does_not_repeat_who_sends_it(kept: KeptEvents) -> None:
    Events(kept, "vault", principal="ana@lab", key="k", peer="p", session="s").entry("new", b"a", Entry("file", size=1))
    assert not {"principal", "key", "peer"} & kept.events[0].keys()
    assert kept.events[0]["session"] == "s"


def test_without_a_log_nothing_is_done() -> None:
    NO_EVENTS.record("begun")
    NO_EVENTS.about(case="C").entry("new", b"a", Entry("file"))
    NO_EVENTS.of_vault().refuse(PeerError("x"))
