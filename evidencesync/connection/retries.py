"""Waits before another attempt to connect, and says how it went: a server may have no room, or a link may be lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from evidencesync.connection.progress import Progress
from evidencesync.errors import DroppedError, EvidenceSyncError, LinkLostError

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0

_LinkT = TypeVar("_LinkT")


def longest_pause(attempt: int) -> float:
    """Returns the upper limit of `pause_seconds`: it doubles with each attempt, up to LONGEST_PAUSE."""
    return min(FIRST_PAUSE * 2.0 ** min(attempt, 16), LONGEST_PAUSE)


def pause_seconds(attempt: int) -> float:
    """Returns how long to wait before an attempt (the first is 0): longer each time, and random, so that clients spread out."""
    return longest_pause(attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients out, and hides nothing


def not_regained(attempts: int, last: EvidenceSyncError) -> LinkLostError:
    """The error that ends a run whose lost link did not come back in so many attempts; `last` is what the last one met."""
    if attempts == 0:
        return LinkLostError(last.message)
    tried = "the attempt to get it back has" if attempts == 1 else f"{attempts} attempts to get it back have"
    return LinkLostError(f"the link was lost, and {tried} failed{'' if attempts == 1 else '; the last'}: {last.message}")


def wait_for_place(refused: EvidenceSyncError, progress: Progress, attempt: int, retries: int) -> None:
    """Notifies the user why the run waits, and waits before the next attempt."""
    seconds = pause_seconds(attempt)
    progress.stage = "waiting"
    progress.notify(f"{refused.message}; trying again in {seconds:.1f} s ({attempt + 1} of {retries})")
    time.sleep(seconds)


def connect_first(first: Callable[[], _LinkT], again: Callable[[], _LinkT], retries: int, progress: Progress) -> _LinkT:
    """Makes the first connection of a run. If it is dropped before the handshake, it is retried up to `retries` times.

    A server that has too many connections drops some of the new ones (sshd's MaxStartups). Every other error is raised at once:
    a mistyped address must be reported now.
    """
    try:
        return first()
    except DroppedError as error:
        dropped = error
    for attempt in range(retries):
        wait_for_place(dropped, progress, attempt, retries)
        progress.stage = "connecting"
        try:
            return again()
        except DroppedError as error:
            dropped = error
    raise dropped
