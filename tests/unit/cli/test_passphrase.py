from __future__ import annotations

import pytest

from evidencesync.cli import passphrase
from evidencesync.cli.passphrase import PassphraseAsker
from evidencesync.errors import InterruptedRunError


def test_a_key_that_signs_and_logs_in_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def prompt(key: str) -> str:
        asked.append(key)
        return f"secret {len(asked)}"

    monkeypatch.setattr(passphrase, "_prompt", prompt)
    asker = PassphraseAsker()
    assert asker.for_signing("Passphrase for /k/ana: ") == "secret 1"
    login = asker.for_login()
    assert login("/k/ana") == "secret 1"
    assert login("/k/ana") == "secret 2"  # what was told did not open it: a person must type again
    assert login("/k/other") == "secret 3"
    assert asked == ["/k/ana", "/k/ana", "/k/other"]


def test_nobody_is_asked_again_when_a_lost_link_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["secret", ""])
    monkeypatch.setattr(passphrase, "_prompt", lambda _key: next(answers))
    asker = PassphraseAsker()
    for _ in range(3):
        login = asker.for_login()
        assert (login("/k/ana"), login("/k/skipped")) == ("secret", "")


def test_the_question_is_safe_and_no_answer_ends_the_run() -> None:
    seen: list[str] = []

    def read(question: str) -> str:
        seen.append(question)
        raise EOFError

    with pytest.raises(InterruptedRunError):
        passphrase._prompt("/k/\x1b[31m", read)
    assert seen == [r"Passphrase for /k/\x1b[31m: "]
