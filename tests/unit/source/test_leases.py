from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

from evidencesync.source.filters import FilterRules
from evidencesync.source.reader import read_small
from evidencesync.source.walker import walk


def test_a_file_under_a_lease_is_waited_for_and_read(tmp_path: Path) -> None:
    path = tmp_path / "leased"
    path.write_bytes(b"in use")
    holder = os.open(path, os.O_RDWR)
    asked: list[int] = []

    def let_go(*_: object) -> None:
        asked.append(1)
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    before = signal.signal(signal.SIGIO, let_go)
    try:
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        steps = walk(path, FilterRules.none())
        next(steps)
        small = read_small(next(steps), 100)
    finally:
        signal.signal(signal.SIGIO, before)
        os.close(holder)
    assert small is not None
    assert (small.data, small.noatime, asked) == (b"in use", True, [1])
