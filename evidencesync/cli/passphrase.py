"""Asks a person for the passphrase of a key to sign with: on the terminal itself, never through a pipe or the environment."""

from __future__ import annotations

import re
from collections.abc import Callable

from evidencesync.cli.terminal import Terminal, has_terminal

_QUESTION = re.compile(r"Passphrase for (?P<key>.*?):? ?", re.DOTALL)
AskPassphrase = Callable[[str], str]


def make_asker(terminal: Terminal) -> AskPassphrase | None:
    """Somebody who can be asked, with a question or a key's name; None where there is no terminal.

    Asks when ssh has no questions there. Raises InterruptedRunError where nobody wants to answer.
    """

    def ask(question: str) -> str:
        terminal.wait_until_free()
        return ask_passphrase(question)

    return ask if has_terminal() else None


def ask_passphrase(question: str, read: Callable[[str], str] | None = None) -> str:
    """The answer of a person."""
    import getpass

    from evidencesync.cli.escaping import shield
    from evidencesync.errors import InterruptedRunError

    match = _QUESTION.fullmatch(question)
    try:
        return (read or getpass.getpass)(shield(f"Passphrase for {match['key'] if match else question}: "))
    except EOFError as error:
        raise InterruptedRunError("no passphrase was given", hint="") from error
