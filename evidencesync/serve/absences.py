"""How many sessions of one server may wait for senders whose links are lost: each keeps a thread, memory and its item.

A session that has no link is not among those that the server counts by their connections. So it has bounds of its own: who
opens session after session, and hangs up each time, ends his own oldest ones, and nobody else's as long as others have
fewer. Nothing is lost by that: what has arrived is in staging, for the next run.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Final

from evidencesync.ssh.shares import Share, Waiting

_MAX_ABSENT: Final = 64  # twice as many as have links at a time: all of them may be lost at once, and again before they end
_MAX_ABSENT_OF_ONE: Final = 32


class Absences:
    """Those of one server. Used by the threads of all its sessions."""

    def __init__(self, total: int = _MAX_ABSENT, of_one: int = _MAX_ABSENT_OF_ONE) -> None:
        self._total = total
        self._of_one = of_one
        self._lock = threading.Lock()
        self._waiting: Waiting[Absence] = Waiting(0.0)

    def begin(self, one: Absence, who: str) -> None:
        """Lets one wait; of those who wait already, somebody may have to end for it."""
        with self._lock:
            leaving = self._waiting.enter(one, [Share(who, self._of_one)], self._total, time.monotonic())
            for other in [one] if leaving is None else leaving:
                other.is_over = True

    def end(self, one: Absence) -> None:
        """One waits no longer."""
        with self._lock:
            self._waiting.leave(one)


class Absence:
    """That of one session, which may lose its link several times."""

    def __init__(self, absences: Absences) -> None:
        self.is_over = False
        """Whether the session is to wait no longer: another one has its place."""
        self._absences = absences

    @contextlib.contextmanager
    def waiting(self, who: str) -> Iterator[None]:
        """Entered for as long as the session waits for its sender, who has this name."""
        self.is_over = False
        self._absences.begin(self, who)
        try:
            yield
        finally:
            self._absences.end(self)
