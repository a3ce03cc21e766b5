"""A pipe is read once: what comes soon is given on, and each of its ends has a name."""

from __future__ import annotations

import os
import pty
import threading
from collections.abc import Iterator

import pytest

from evidencesync.source import pipe as pipe_module
from evidencesync.source.pipe import KeptErrors, OpenedPipe


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    source, sink = os.pipe()
    yield source, sink
    for descriptor in (source, sink):
        try:
            os.close(descriptor)
        except OSError:
            continue


def read(opened: OpenedPipe, size: int = 1000) -> bytes:
    room = bytearray(size)
    return bytes(room[: opened.read_into(memoryview(room))])


def test_what_comes_is_read_to_its_end(ends: tuple[int, int]) -> None:
    opened = OpenedPipe(ends[0])
    os.write(ends[1], b"one")
    assert read(opened, 2) == b"on"
    os.close(ends[1])
    assert read(opened) == b"e"
    assert read(opened) == b""
    assert opened.end == "end-of-data"


def test_a_block_is_filled_from_many_writes(ends: tuple[int, int]) -> None:
    def write() -> None:
        for _ in range(200):
            os.write(ends[1], b"x" * 10_000)
        os.close(ends[1])

    threading.Thread(target=write, daemon=True).start()
    came = []
    opened = OpenedPipe(ends[0])
    while block := read(opened, 1 << 20):
        came.append(len(block))
    assert sum(came) == 2_000_000
    assert opened.end == "end-of-data"


def test_a_silent_pipe_is_given_up_and_says_so(ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe_module, "_LOOK_SECONDS", 0.01)
    opened = OpenedPipe(ends[0], idle_seconds=0.05)
    os.write(ends[1], b"one")
    assert read(opened) == b"one"
    assert read(opened) == b""
    assert opened.end == "idle"


def test_a_pipe_that_a_command_has_left_to_others_is_given_up_after_it(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe_module, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(pipe_module, "LEFT_OPEN_SECONDS", 0.02)
    is_over = threading.Event()
    opened = OpenedPipe(ends[0], is_over=is_over.is_set)
    os.write(ends[1], b"one")
    assert read(opened) == b"one"
    is_over.set()
    assert read(opened) == b""
    assert opened.end == "left-open"


def test_a_pipe_that_a_person_ends_gives_what_had_come(ends: tuple[int, int]) -> None:
    opened = OpenedPipe(ends[0])
    os.write(ends[1], b"one")
    assert read(opened) == b"one"
    os.write(ends[1], b"two")
    opened.end_here()
    assert read(opened) == b"two"
    os.write(ends[1], b"three")
    assert read(opened) == b""
    assert opened.end == "interrupted"


def test_a_terminal_that_is_closed_ends_with_an_error() -> None:
    near, far = pty.openpty()
    opened = OpenedPipe(near)
    os.write(far, b"one")
    assert read(opened) == b"one"
    os.close(far)
    assert read(opened) == b""
    assert opened.end == "read-error"
    os.close(near)


def test_of_standard_error_so_much_is_kept_and_the_rest_counted() -> None:
    kept = KeptErrors(10)
    for part in (b"1234567", b"89abc", b"def"):
        kept.add(part)
    assert kept.taken() == (b"123456789a", 5)
