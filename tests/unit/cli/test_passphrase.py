from __future__ import annotations

import contextlib
import io
import threading

import pytest

from evidencesync.cli import terminal as module
from evidencesync.cli.terminal import Terminal, ask_passphrase, make_asker
from evidencesync.errors import InterruptedRunError
from tests.support.patience import PATIENCE_SECONDS


def test_nobody_is_asked_while_ssh_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "has_terminal", lambda: True)
    monkeypatch.setattr(module, "ask_passphrase", asked.append)
    terminal = Terminal()
    ask = make_asker(terminal)
    assert ask is not None
    terminal.lend()
    asking = threading.Thread(target=ask, args=("/k/ana",))
    asking.start()
    assert asked == []
    terminal.take_back()
    asking.join(PATIENCE_SECONDS)
    assert asked == ["/k/ana"]


class _Display:
    """A display that writes what it does."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    def start(self) -> None:
        self._stream.write("[start]")

    def stop(self) -> None:
        self._stream.write("[stop]")


@pytest.mark.parametrize("is_lent_before", [False, True])
def test_while_ssh_may_ask_the_terminal_is_not_empty(monkeypatch: pytest.MonkeyPatch, *, is_lent_before: bool) -> None:
    """It logs in for seconds over a far line. Its question, if it has one, overwrites the word."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", stream)
    terminal = Terminal()
    if is_lent_before:
        terminal.lend()
    with terminal.drawn_on(_Display(stream)):
        if not is_lent_before:
            terminal.lend()
        assert stream.getvalue().endswith("connecting\r")
        terminal.take_back()
        assert stream.getvalue().endswith("connecting\r\r\x1b[K[start]")
    with contextlib.suppress(ValueError), terminal.drawn_on(_Display(stream)):
        terminal.lend()
        raise ValueError
    assert stream.getvalue().endswith("connecting\r[stop]\r\x1b[K")


def test_the_question_is_safe_and_no_answer_ends_the_run() -> None:
    seen: list[str] = []

    def read(question: str) -> str:
        seen.append(question)
        raise EOFError

    with pytest.raises(InterruptedRunError):
        ask_passphrase("Passphrase for /k/\x1b[31m: ", read)
    assert seen == [r"Passphrase for /k/\x1b[31m: "]
