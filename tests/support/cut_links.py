"""Links that are lost: a push over one of them, and the same push again over the next."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from evidencesync.acquire.push import push
from evidencesync.acquire.request import PushOutcome
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.acquire.source_access import SourceAccess
from evidencesync.connection.event_log import Events
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.connection.sender_connection import SINGLE_SESSION
from evidencesync.errors import ConnectError, EvidenceSyncError, LinkLostError, LockedError
from evidencesync.ingest.receive import receive
from tests.support.bench_of_evidence import Bench
from tests.support.kept_events import KeptEvents
from tests.support.link_in_between import LinkInBetween
from tests.support.patience import PATIENCE_SECONDS


class CutLink(LinkInBetween):
    """A link that is lost when so many bytes were sent, or so many received. `silent`: the other end is not told."""

    def __init__(self, link: LocalLink, *, sent: int | None = None, received: int | None = None, silent: bool = False) -> None:
        super().__init__(link)
        self._sent = sent
        self._received = received
        self._silent = silent
        self._cut = threading.Event()
        self._woken = False

    def read(self) -> bytes:
        block = self._link.read()
        if self._received is not None and self._link.wire_received > self._received:
            self._lose()
        if self._cut.is_set():
            raise LinkLostError("cut")
        return block

    def write(self, data: bytes) -> None:
        if self._cut.is_set():
            raise LinkLostError("cut")
        if self._sent is not None and self._link.wire_sent + len(data) > self._sent:
            self._link.write(data[: max(self._sent - self._link.wire_sent, 0)])
            self._lose()
            raise LinkLostError("cut")
        self._link.write(data)

    def close(self) -> None:
        if not self._silent:
            self._link.close()
        elif not self._woken:
            self._woken = True
            self._cut.set()
            with contextlib.suppress(LinkLostError):
                self._link.incoming.put(b"-")  # as any link that is closed, it wakes its own reader

    def _lose(self) -> None:
        self._cut.set()
        if not self._silent:
            self._link.close()


class FlakyBench:
    """Pushes of a bench over links that are lost, one after the other, as `cuts` says; None is a link that holds."""

    def __init__(self, bench: Bench, *, may_reconnect: bool = True) -> None:
        """Without `may_reconnect` a session ends with its link."""
        self.bench = bench
        self.may_reconnect = may_reconnect
        self.threads: list[threading.Thread] = []
        self.links = 0
        self.source_access: SourceAccess | None = None
        """Where the evidence comes from; None: from the bench's folder."""
        self.recorder = SessionRecorder()
        self.log = KeptEvents()
        """What both ends tell."""

    def push(self, cuts: list[dict[str, Any] | None], **changes: Any) -> PushOutcome:
        """One push; after the last of `cuts` nobody connects any more, unless that is a link that holds.

        On a busy machine such a link may find its session still at work with the link before it, and be made once more.
        """
        forever: Iterator[None] = itertools.repeat(None) if cuts and cuts[-1] is None else iter(())
        waiting: Iterator[dict[str, Any] | None] = itertools.chain(cuts, forever)

        def again() -> Any:
            try:
                cut = next(waiting)
            except StopIteration:
                raise ConnectError("nobody is there") from None
            self.links += 1
            link = self._serve()
            return link if cut is None else CutLink(link, **cut)

        request = self.bench.request(**{"retries": 100, **changes})
        progress = Progress(events=Events(self.log, "push"))
        return push(again(), request, progress, again=again, source_access=self.source_access, recorder=self.recorder)

    def push_when_free(self, cuts: list[dict[str, Any] | None], **changes: Any) -> PushOutcome:
        """A push that begins when an earlier session has taken in all that its lost link still brought, and lets the item go."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.push(cuts, **changes)
            except LockedError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def join(self) -> None:
        """Waits for every session to end."""
        for thread in self.threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()

    def _serve(self) -> LocalLink:
        ours, theirs = local_pair()
        thread = threading.Thread(target=self._receive, args=(theirs,), daemon=True)
        self.threads.append(thread)
        thread.start()
        return ours

    def _receive(self, link: LocalLink) -> None:
        try:
            host = replace(SINGLE_SESSION, events=Events(self.log, "vault"))
            receive(link, self.bench.vault, "a test", may_reconnect=self.may_reconnect, host=host)
        except EvidenceSyncError:
            return  # the other end is told
