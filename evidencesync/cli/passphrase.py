"""Asks a person for the passphrase of a key: on the terminal itself, never through a pipe, an argument or the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

_QUESTION = re.compile(r"Passphrase for (?P<key>.*?):? ?", re.DOTALL)


class PassphraseAsker:
    """Asks once for each key, and remembers what it was told for as long as the run lasts.

    So a key that both signs and logs in is asked for once, and a link that is lost at night is made again with nobody there.
    """

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def for_signing(self, question: str) -> str:
        """The passphrase for the key that a question or a name is about. Raises InterruptedRunError."""
        key = _key_of(question)
        self._told[key] = _prompt(key)
        return self._told[key]

    def for_login(self) -> Callable[[str], str]:
        """The same, for one connection: a key that it asks about again was not opened by what was told before."""
        asked: set[str] = set()

        def ask(question: str) -> str:
            key = _key_of(question)
            if key not in self._told or key in asked:
                self._told[key] = _prompt(key)
            asked.add(key)
            return self._told[key]

        return ask


def make_asker() -> PassphraseAsker | None:
    """Somebody who can be asked, or None where there is no terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return None
    return PassphraseAsker()


def _key_of(question: str) -> str:
    match = _QUESTION.fullmatch(question)
    return match["key"] if match else question


def _prompt(key: str, read: Callable[[str], str] | None = None) -> str:
    import getpass

    from evidencesync.cli.shield import shield
    from evidencesync.errors import InterruptedRunError

    try:
        return (read or getpass.getpass)(shield(f"Passphrase for {key}: "))
    except EOFError as error:
        raise InterruptedRunError("no passphrase was given", hint="") from error
