"""Looks at one source again and again, and is told in between where something may have changed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from evidencesync.source.filters import FilterRules
from evidencesync.source.notices import Notices, is_silent
from evidencesync.source.origin import file_system_of
from evidencesync.source.sighting import Sight, look


class SourceObserver:
    """A source as `evidencesync.watch.watch` sees it. What is told is only ever a reason to look."""

    def __init__(self, root: bytes, rules: FilterRules, notices: Notices) -> None:
        self._root = root
        self._rules = rules
        self._notices = notices
        self._is_silent = False

    @property
    def is_told(self) -> bool:
        """See Eyes."""
        return self._notices.complete and not self._is_silent

    def look(self) -> Sight | None:
        """See Eyes."""
        self._notices.begin()
        sight = look(self._root, self._rules, self._notices.meet)
        self._notices.end()
        self._is_silent = is_silent(file_system_of(self._root))
        return sight

    def wait(self, seconds: float) -> bool:
        """See Eyes."""
        return self._notices.wait(seconds)

    def sleep(self, seconds: float) -> None:
        """See Eyes."""
        time.sleep(seconds)


@contextlib.contextmanager
def open_observer(root: bytes, rules: FilterRules) -> Iterator[SourceObserver]:
    """Eyes for the length of a `with`."""
    notices = Notices()
    try:
        yield SourceObserver(root, rules, notices)
    finally:
        notices.close()
