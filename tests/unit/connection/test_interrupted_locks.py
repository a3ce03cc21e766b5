"""Ctrl-C at any moment leaves no lock behind: the threads of a run must be able to end."""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from evidencesync.connection.inbox import Inbox
from evidencesync.connection.link import local_pair
from tests.support.patience import PATIENCE_SECONDS

_MODULES = ("evidencesync/connection/link.py", "evidencesync/connection/inbox.py", "/threading.py")
_MOMENTS = ("CALL", "RESUME", "JUMP_BACKWARD")


class _InterruptAt:
    """Raises KeyboardInterrupt at one of the moments, by its number, at which Python lets a signal's handler run.

    Those are after calls, at the beginning of a function and at the end of a loop's round; not between other instructions.
    """

    def __init__(self, number: int) -> None:
        self.left = number
        self._before: dict[FrameType, str] = {}

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.endswith(_MODULES):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            before = self._before.get(frame, "")
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before.startswith(_MOMENTS):
                if self.left == 0:
                    self.left = -1
                    raise KeyboardInterrupt
                self.left -= 1
        return self


def _interrupted(work: Callable[[], object], number: int) -> bool:
    """Runs some work and interrupts it; False when it has fewer moments than that."""
    before = sys.gettrace()
    tracer = _InterruptAt(number)
    sys.settrace(tracer)
    try:
        work()
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:  # the wait had given the lock back, and had not yet taken it again
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
    finally:
        sys.settrace(before)
    return tracer.left < 0


def _is_free(lock: Any) -> bool:
    """Whether another thread can take it."""
    taken: list[bool] = []

    def take() -> None:
        taken.append(lock.acquire(timeout=PATIENCE_SECONDS))
        if taken[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return taken[0]


def _put() -> tuple[Callable[[], object], Any]:
    _, theirs = local_pair()
    return (lambda: theirs.write(b"block")), theirs.outgoing._lock


def _take() -> tuple[Callable[[], object], Any]:
    ours, theirs = local_pair()
    theirs.write(b"block")
    return ours.read, ours.incoming._lock


def _close() -> tuple[Callable[[], object], Any]:
    ours, _ = local_pair()
    return ours.close, ours.outgoing._lock


def _take_answer() -> tuple[Callable[[], object], Any]:
    inbox: Inbox[bytes, bytes] = Inbox()
    inbox.put_peer(inbox.begin_link(), [b"answer"], 6)
    return (lambda: inbox.take(local=True, timeout_seconds=1)), inbox._lock


def _wait_for_answer() -> tuple[Callable[[], object], Any]:
    inbox: Inbox[bytes, bytes] = Inbox()
    return (lambda: inbox.wait_for_error(0.001)), inbox._lock


@pytest.mark.parametrize("made", [_put, _take, _close, _take_answer, _wait_for_answer])
def test_an_interruption_anywhere_leaves_no_lock_taken(made: Callable[[], tuple[Callable[[], object], Any]]) -> None:
    number = 0
    while True:
        work, lock = made()
        if not _interrupted(work, number):
            break
        assert _is_free(lock), f"interrupted at moment {number}"
        number += 1
    assert number > 1
