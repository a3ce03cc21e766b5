"""The terminal, shared by our progress display, the user's ssh and our own questions for a passphrase.

While ssh may ask for something, one word stands there that its question overwrites, and no other question is asked.
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from evidencesync.ssh.options import TerminalUser

_CONNECTING: Final = "connecting\r"  # shorter than any question of ssh's
_ERASE: Final = "\r\x1b[K"
_LOOK_SECONDS: Final = 0.5  # without a limit on the wait, a lock in the main thread would hold back Ctrl-C on some systems


class Display(Protocol):
    """A display that draws on the terminal. Both methods may be called repeatedly, from any thread."""

    def start(self) -> None:
        """Begins to draw."""

    def stop(self) -> None:
        """Leaves nothing behind on the terminal."""


class Terminal:
    """Controls who may write to the terminal: our display, or ssh."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # entered in place of the condition, which a function of Python enters
        self._free = threading.Condition(self._lock)
        self._lent = 0
        self._modes: list[Any] | None = None
        self._display: Display | None = None

    def lend(self) -> None:
        """Gives the terminal to ssh: the display stops."""
        with self._lock:
            if not self._lent:
                self._modes = _modes()
            self._lent += 1
            if self._display is not None:
                self._display.stop()
                _write(_CONNECTING)

    def take_back(self) -> None:
        """Takes the terminal back from ssh. Call it once for each `lend`."""
        with self._lock:
            self._lent -= 1
            if not self._lent:
                _restore(self._modes)
            self._free.notify_all()
            if self._display is not None and not self._lent:
                _write(_ERASE)
                self._display.start()

    def wait_until_free(self) -> None:
        """Waits until ssh may not ask any more: two questions at once would mix up their answers."""
        with self._lock:
            while self._lent:
                self._free.wait(_LOOK_SECONDS)

    @contextlib.contextmanager
    def drawn_on(self, display: Display) -> Iterator[None]:
        """Shows a display for the length of a `with`, except while ssh has the terminal."""
        with self._lock:
            self._display = display
            if self._lent:
                _write(_CONNECTING)
            else:
                display.start()
        try:
            yield
        finally:
            with self._lock:
                self._display = None
                display.stop()
                if self._lent:
                    _write(_ERASE)


class Notes(Protocol):
    """Where lines for the person go: the console."""

    terminal: Terminal

    def print_notice(self, line: str) -> None:
        """Says it."""


class _PersonAtTerminal:
    """See `evidencesync.ssh.options.TerminalUser`."""

    def __init__(self, console: Notes) -> None:
        self._console = console

    def lend(self) -> None:
        self._console.terminal.lend()

    def take_back(self) -> None:
        self._console.terminal.take_back()

    def show(self, line: str) -> None:
        self._console.print_notice(f"ssh: {line}")


def person_at(console: Notes) -> TerminalUser | None:
    """Somebody whom ssh can ask, on the terminal or through SSH_ASKPASS; None where nobody is."""
    return _PersonAtTerminal(console) if has_terminal() or _has_window() else None


def has_terminal() -> bool:
    """Whether this process has a terminal to ask on, wherever its streams lead."""
    try:
        with _open_terminal():
            return True
    except OSError:
        return False


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a terminal that has gone: whatever is to be known is said elsewhere
        if sys.stderr.isatty():
            sys.stderr.write(text)
            sys.stderr.flush()


def _modes() -> list[Any] | None:
    """The terminal's modes; None without a terminal."""
    try:
        with _open_terminal() as descriptor:
            return termios.tcgetattr(descriptor)
    except (OSError, termios.error):
        return None


def _restore(modes: list[Any] | None) -> None:
    """Restores the terminal's modes: an ssh that is killed at a question leaves it without echo. Not if another job has it."""
    try:
        with _open_terminal() as descriptor:
            if modes is not None and os.tcgetpgrp(descriptor) == os.getpgrp() and termios.tcgetattr(descriptor) != modes:
                termios.tcsetattr(descriptor, termios.TCSADRAIN, modes)
    except (OSError, termios.error):
        return


@contextlib.contextmanager
def _open_terminal() -> Iterator[int]:
    descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _has_window() -> bool:
    """Whether ssh would start a program that asks in a window (ssh(1), SSH_ASKPASS)."""
    get = os.environ.get
    has_display = bool(get("DISPLAY") or get("WAYLAND_DISPLAY"))
    return bool(get("SSH_ASKPASS")) and (get("SSH_ASKPASS_REQUIRE") == "force" or has_display)


AskPassphrase = Callable[[str], str]


def make_asker(terminal: Terminal) -> AskPassphrase | None:
    """Somebody who can be asked; None where there is no terminal.

    Asks when ssh has no questions there. Raises InterruptedRunError where nobody wants to answer.
    """

    def ask(question: str) -> str:
        terminal.wait_until_free()
        return ask_passphrase(question)

    return ask if has_terminal() else None


def ask_passphrase(question: str, read: Callable[[str], str] | None = None) -> str:
    """The answer of a person."""
    import getpass

    from evidencesync.errors import InterruptedRunError
    from evidencesync.evidence.display import escape_line

    try:
        return (read or getpass.getpass)(escape_line(question))
    except EOFError as error:
        raise InterruptedRunError("no passphrase was given", hint="") from error
