"""Lines of several writers never mix, and a log that cannot be written stops nothing: the gap is counted, and said."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evidencesync.connection.event_log import Events
from evidencesync.connection.event_sinks import EventLog, FileSink, SystemSink
from tests.support.patience import PATIENCE_SECONDS

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class Told:
    """What was said about gaps."""

    def __init__(self) -> None:
        self.said: list[str] = []


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def test_lines_of_many_processes_and_threads_stay_whole(tmp_path: Path) -> None:
    file, said = tmp_path / "log", list[str]()

    def write(number: int) -> None:
        log = EventLog(FileSink(os.open(file, APPEND)), said.append)
        events = Events(log, "vault", session=str(number))
        for count in range(200):
            events.record("entry", path="x" * (count * 10), size=count)
        log.close()

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=write, args=(number,)) for number in range(3)]
    for child in children:
        child.start()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for child in children:
        child.join()
    written = lines(file)
    assert said == []
    for number in range(5):
        assert [event["size"] for event in written if event["session"] == str(number)] == list(range(200))


def test_a_full_disk_is_said_once_and_counted(tmp_path: Path) -> None:
    told = Told()
    log = EventLog(FileSink(os.open("/dev/full", os.O_WRONLY)), told.said.append)
    for _ in range(3):
        Events(log, "push").record("link-lost")
    assert (log.lost, told.said) == (3, ["No space left on device"])


def test_a_torn_line_spoils_no_other_and_the_gap_is_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, told = tmp_path / "log", Told()
    log = EventLog(FileSink(os.open(file, APPEND)), told.said.append)
    events, write = Events(log, "push"), os.write
    events.record("begun")
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:20]))
    events.record("link-lost")
    monkeypatch.setattr(os, "write", write)
    events.record("ended", code=0)
    log.close()
    whole, torn, gap, ended = file.read_bytes().splitlines()
    assert json.loads(whole)["event"] == "begun"
    assert len(torn) == 20
    assert (json.loads(gap)["event"], json.loads(gap)["lost"]) == ("gap", 1)
    assert json.loads(ended)["event"] == "ended"
    assert (log.lost, len(told.said)) == (1, 1)


@pytest.fixture
def daemon() -> Iterator[tuple[str, socket.socket]]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        place = f"{folder}/log"
        yield place, listening(place)


def listening(place: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(place)
    made.settimeout(PATIENCE_SECONDS)
    return made


def test_the_systems_log_gets_one_message_an_event(daemon: tuple[str, socket.socket]) -> None:
    place, received = daemon
    log = EventLog(SystemSink(place), list[str]().append)
    events = Events(log, "vault", principal="eve\n<0>kernel: x")
    events.record("begun")
    events.record("refused", code=32, message="\x1b[2J")
    first, second = received.recv(8192), received.recv(8192)
    assert first.startswith(b"<13>evidencesync[%d]: {" % os.getpid())
    assert second.startswith(b"<12>evidencesync[")
    for message in (first, second):
        assert message.isascii()
        assert message.decode().isprintable()
        assert json.loads(message.partition(b": ")[2])["principal"] == "eve\\x0a<0>kernel: x"
    log.close()
    received.close()


def test_a_daemon_that_is_started_anew_gets_what_follows(daemon: tuple[str, socket.socket]) -> None:
    place, received = daemon
    told = Told()
    log = EventLog(SystemSink(place), told.said.append)
    events = Events(log, "vault")
    received.close()
    events.record("begun")
    os.unlink(place)
    events.record("link-lost")
    again = listening(place)
    events.record("resumed")
    assert [json.loads(again.recv(8192).partition(b": ")[2])["event"] for _ in range(2)] == ["gap", "resumed"]
    assert (log.lost, len(told.said)) == (2, 1)
    log.close()
    again.close()


def test_nobody_waits_twice_for_a_daemon_that_does_not_keep_up(
    daemon: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evidencesync.connection.event_sinks._SECONDS", 0.01)
    place, received = daemon
    told = Told()
    log = EventLog(SystemSink(place), told.said.append)
    events, sent = Events(log, "vault"), 0
    while not log.lost:
        events.record("entry", size=sent)
        sent += 1
    timeouts: list[float | None] = []
    monkeypatch.setattr(socket.socket, "settimeout", lambda _self, seconds: timeouts.append(seconds))
    events.record("entry")
    assert (timeouts[0], log.lost) == (0, 2)
    assert len(told.said) == 1
    log.close()
    received.close()


def test_where_nobody_listens_it_is_known_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        SystemSink(str(tmp_path / "log"))
