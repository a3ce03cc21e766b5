"""Links that are lost: a push over one of them, and the same push again over the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import ConnectError, EvidenceSyncError, LinkLostError
from evidencesync.transfer.link import LocalLink, local_pair
from evidencesync.transfer.progress import Progress
from evidencesync.transfer.push import push
from evidencesync.transfer.receive import receive
from evidencesync.transfer.request import PushOutcome
from tests.support.bench_of_evidence import Bench


class CutLink:
    """A link that is lost when so many bytes were sent, or so many received. `silent`: the other end is not told."""

    peer: SshPeer | None = None

    def __init__(self, link: LocalLink, *, sent: int | None = None, received: int | None = None, silent: bool = False) -> None:
        self._link = link
        self._sent = sent
        self._received = received
        self._silent = silent
        self._cut = threading.Event()

    @property
    def wire_sent(self) -> int:
        return self._link.wire_sent

    @property
    def wire_received(self) -> int:
        return self._link.wire_received

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

    def _lose(self) -> None:
        self._cut.set()
        if not self._silent:
            self._link.close()


class FlakyBench:
    """Pushes of a bench over links that are lost, one after the other, as `cuts` says; None is a link that holds."""

    def __init__(self, bench: Bench, *, may_return: bool = True) -> None:
        self.bench = bench
        self.may_return = may_return
        self.threads: list[threading.Thread] = []
        self.links = 0

    def push(self, cuts: list[dict[str, Any] | None], **changes: Any) -> PushOutcome:
        """One push; after the last of `cuts` nobody connects any more."""
        waiting: Iterator[dict[str, Any] | None] = iter(cuts)

        def again() -> Any:
            try:
                cut = next(waiting)
            except StopIteration:
                raise ConnectError("nobody is there") from None
            self.links += 1
            link = self._serve()
            return link if cut is None else CutLink(link, **cut)

        request = self.bench.request(**{"retries": 3, **changes})
        return push(again(), request, Progress(), again=again)

    def join(self) -> None:
        """Waits for every session to end."""
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()

    def _serve(self) -> LocalLink:
        ours, theirs = local_pair()
        thread = threading.Thread(target=self._receive, args=(theirs,), daemon=True)
        self.threads.append(thread)
        thread.start()
        return ours

    def _receive(self, link: LocalLink) -> None:
        try:
            receive(link, self.bench.vault, "a test", may_return=self.may_return)
        except EvidenceSyncError:
            return  # the other end is told
