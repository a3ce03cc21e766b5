"""Interrupts a command: by Ctrl-C, by signals that stop a process, and once more where Python has lost the interrupt."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from evidencesync.cli.at_once import end_at_once

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
_REPEAT_SECONDS: Final = 0.05  # by then the callback that lost it has ended


def catch_stop_signals() -> None:
    """Makes SIGTERM and SIGHUP interrupt the command as Ctrl-C does. It is raised in the command from now on, which cleans up."""
    if threading.current_thread() is threading.main_thread():
        if signal.getsignal(signal.SIGINT) is end_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in _STOP_SIGNALS:
            if signal.getsignal(number) == signal.SIG_DFL:  # else nohup has set it, and it stays
                signal.signal(number, _interrupt)


def repeat_lost_interrupts() -> None:
    """Sends Ctrl-C once more where Python has lost it, for the rest of the process.

    Python raises it wherever the main thread is. In a callback that Python calls by itself, of a weak reference (each import has
    one) or at an object's end, no exception is passed on: the command would go on as if nothing had been typed.
    """
    sys.unraisablehook = _repeat


def ignore_interrupts() -> None:
    """Ignores Ctrl-C from now on: the outcome is printed, and an interrupt would only replace the exit code.

    A signal that stops a process does just that: whatever still keeps it from its end can be ended.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGALRM, signal.SIGINT):  # in this order: SIGALRM sends SIGINT
            signal.signal(number, signal.SIG_IGN)
        for number in _STOP_SIGNALS:
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def first_interrupt(ends: Callable[[], bool]) -> Iterator[None]:
    """Gives the first Ctrl-C to `ends`, which returns whether that was enough; every other one interrupts as ever."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # a shell's background process, which no Ctrl-C reaches
        return

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        if not ends():
            before(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handle:
            signal.signal(signal.SIGINT, before)


def is_interruption(error: BaseException | None) -> bool:
    """Whether an error is, or was raised while handling, an interrupt: closing a link in the middle may fail with a lost link."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _repeat(lost: sys.UnraisableHookArgs) -> None:
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, _REPEAT_SECONDS)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Passes the signal on as SIGINT: asyncio ends an event loop cleanly at SIGINT, and not at an exception at any place.

    A shell starts background processes with SIGINT ignored. There the exception is raised directly.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)
