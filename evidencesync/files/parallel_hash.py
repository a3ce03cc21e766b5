"""BLAKE3 in as many threads as the machine has, or in one where this process may have no more."""

from __future__ import annotations

import functools
import os
import threading
from typing import Final

from blake3 import blake3

from evidencesync.limits import MIB

_ENOUGH_FOR_THREADS: Final = MIB // 2


def new_parallel_blake3() -> blake3:
    """An incremental BLAKE3 for large blocks."""
    return blake3(max_threads=_most_threads())


@functools.cache
def _most_threads() -> int:
    """The threads are started here, once for the process: where they are refused, blake3 panics, then and ever after.

    A panic writes to stderr by itself, so as many threads as the machine has are tried first.
    """
    if not _can_start_threads(os.cpu_count() or 1):
        return 1
    try:
        blake3(bytes(_ENOUGH_FOR_THREADS), max_threads=blake3.AUTO)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # which is no Exception, and has no name that could be imported
            raise
        return 1
    return blake3.AUTO


def _can_start_threads(count: int) -> bool:
    done = threading.Event()
    try:
        for _ in range(count):
            threading.Thread(target=done.wait, daemon=True).start()
    except RuntimeError:
        return False
    finally:
        done.set()
    return True
