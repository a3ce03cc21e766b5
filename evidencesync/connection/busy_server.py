"""A server that has no place for us now: it drops the connection, or says that it is busy. We wait, say so, and ask again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from evidencesync.connection.progress import Progress
from evidencesync.errors import DroppedError, EvidenceSyncError

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0

_LinkT = TypeVar("_LinkT")


def longest_pause(attempt: int) -> float:
    """What `pause_seconds` is at the most: longer with each attempt, up to a bound."""
    return min(FIRST_PAUSE * 2.0 ** min(attempt, 16), LONGEST_PAUSE)


def pause_seconds(attempt: int) -> float:
    """How long to wait before an attempt, the first of which is 0: longer each time, and not all clients of a server the same."""
    return longest_pause(attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - spreads clients out, and hides nothing


def wait_for_place(refused: EvidenceSyncError, progress: Progress, attempt: int, retries: int) -> None:
    """Says why we wait, and waits."""
    seconds = pause_seconds(attempt)
    progress.stage = "waiting"
    progress.tell(f"{refused.message}; trying again in {seconds:.1f} s ({attempt + 1} of {retries})")
    time.sleep(seconds)


def first_link(first: Callable[[], _LinkT], again: Callable[[], _LinkT], retries: int, progress: Progress) -> _LinkT:
    """The first connection of a run. One that is dropped before anybody has greeted is made again, `retries` times in a row.

    A server that has too many connections drops some of the new ones (sshd's MaxStartups). Whatever else happens is raised: who
    has mistyped an address wants to know it now.
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
