"""FileChecks: compares many small stored files with a manifest, by threads first, and by processes where there are many."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from typing import Final

from evidencesync.vault.helper import Helper
from evidencesync.vault.stored import Comparison, Problem, StoredFile, compare_files
from evidencesync.vault.tree import TreeReader

# Of the smallest files, whoever adds them keeps only two busy; of larger ones, four hash faster than most disks read.
_WORKERS: Final = min(max(os.cpu_count() or 1, 2), 4)
_BATCH_FILES: Final = 256
_BATCH_BYTES: Final = 8 << 20
_BATCHES_AHEAD: Final = _WORKERS + 4
_HELPERS_FROM: Final = 8192  # files: below that, starting a process (a tenth of a second) costs more than it gives

_Compare = Callable[[Sequence[StoredFile]], list[Problem]]
Done = Callable[[list[StoredFile], list[Problem]], None]
"""Told of files that were compared, and of all that is wrong with them. Called in the thread that adds files."""


class FileChecks:
    """Add files in manifest order; `done` hears of them in that order, a little later. Then `finish`, and `close`."""

    def __init__(self, data_fd: int, done: Done, comparison: Comparison) -> None:
        """The descriptor of `data/` stays the caller's, and is not needed after this."""
        self._done = done
        self._comparison = comparison
        self._batch: list[StoredFile] = []
        self._batch_bytes = 0
        self._added = 0
        self._pending: deque[tuple[list[StoredFile], Future[list[Problem]]]] = deque()
        self._stack = ExitStack()
        self._data_fd = os.dup(data_fd)
        self._stack.callback(os.close, self._data_fd)
        self._comparers: SimpleQueue[_Compare] = SimpleQueue()
        for _ in range(_WORKERS):
            self._comparers.put(self._in_this_process())
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="compare")

    def add(self, file: StoredFile) -> None:
        """The next file. Waits when enough is under way. Raises InternalError when a helper process has died."""
        self._batch.append(file)
        self._batch_bytes += file.size
        if len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            self._submit()

    def finish(self) -> None:
        """Waits for everything that was added. More may be added afterwards."""
        self._submit()
        while self._pending:
            self._take()

    def close(self) -> None:
        """Ends threads and processes."""
        self._pool.shutdown(cancel_futures=True)
        self._stack.close()

    def _in_this_process(self) -> _Compare:
        reader = TreeReader(os.dup(self._data_fd), untouched=self._comparison.survey)
        self._stack.callback(reader.close)
        return partial(compare_files, reader, comparison=self._comparison)

    def _submit(self) -> None:
        if self._batch:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            before, self._added = self._added, self._added + len(batch)
            if before < _HELPERS_FROM <= self._added:
                self._call_helpers()
            self._pending.append((batch, self._pool.submit(self._compare, batch)))
        while len(self._pending) > _BATCHES_AHEAD:
            self._take()

    def _take(self) -> None:
        batch, problems = self._pending.popleft()
        self._done(batch, problems.result())

    def _call_helpers(self) -> None:
        """Puts a process in each thread's place, as far as the system starts them; the thread then only waits for it."""
        if (os.cpu_count() or 1) < _WORKERS:
            return
        while self._pending:  # so that nothing is in use
            self._take()
        for _ in range(_WORKERS):
            try:
                helper = Helper(self._data_fd, self._comparison)
            except OSError:  # then a thread does it, as before
                return
            self._stack.callback(helper.close)
            self._comparers.get()
            self._comparers.put(helper.compare)

    def _compare(self, batch: list[StoredFile]) -> list[Problem]:
        """In one of the pool's threads."""
        compare = self._comparers.get()
        try:
            return compare(batch)
        finally:
            self._comparers.put(compare)
