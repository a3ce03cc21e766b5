from __future__ import annotations

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


def test_the_question_is_safe_and_no_answer_ends_the_run() -> None:
    seen: list[str] = []

    def read(question: str) -> str:
        seen.append(question)
        raise EOFError

    with pytest.raises(InterruptedRunError):
        ask_passphrase("Passphrase for /k/\x1b[31m: ", read)
    assert seen == [r"Passphrase for /k/\x1b[31m: "]
