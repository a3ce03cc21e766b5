"""Many tries of one test at the same time: what waits for a timeout waits no longer when others wait beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.support.patience import PATIENCE_SECONDS


def try_all(work: Callable[..., object], tries: Iterable[Sequence[Any]], folder: Path) -> None:
    """Calls `work(place, *one)` for each of the tries, each in a thread and with an empty folder of its own.

    Says of every try that failed which one it was.
    """
    failed: list[BaseException] = []
    threads = []
    for number, one in enumerate(tries):
        place = folder / f"try{number}"
        place.mkdir()
        threads.append(threading.Thread(target=_try, args=(work, place, one, failed), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), "a try waits for ever"
    if failed:
        raise BaseExceptionGroup("tries that failed", failed)


def _try(work: Callable[..., object], place: Path, one: Sequence[Any], failed: list[BaseException]) -> None:
    try:
        work(place, *one)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test ends with it
        error.add_note(f"in the try {tuple(one)}")
        failed.append(error)
