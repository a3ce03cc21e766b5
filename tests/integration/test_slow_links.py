"""A link that stands still for a moment: the source runs ahead, and nothing that was to be sent may be forgotten."""

from __future__ import annotations

import time
from pathlib import Path

from evidencesync.acquire.push import push
from evidencesync.connection.link import LocalLink
from evidencesync.connection.progress import Progress
from tests.support.bench_of_evidence import make_bench
from tests.support.patience import PATIENCE_SECONDS


class HesitantLink(LocalLink):
    """Takes its time over its third write, which is the first after the handshake."""

    def __init__(self, link: LocalLink, seconds: float) -> None:
        super().__init__(link.incoming, link.outgoing)
        self._writes = 0
        self._seconds = seconds

    def write(self, data: bytes) -> None:
        self._writes += 1
        if self._writes == 3:
            time.sleep(self._seconds)
        super().write(data)


def test_a_window_full_of_names_is_sent_and_not_only_written_down(tmp_path: Path) -> None:
    """Names of known pages are so short that a whole window of them is far from filling a write."""
    bench = make_bench(tmp_path)
    for number in range(5000):
        (bench.source / f"{number:05}").touch()
    bench.push()
    link, thread = bench.serve()
    outcome = push(HesitantLink(link, 2.0), bench.request(timeout_seconds=60), Progress())
    thread.join(PATIENCE_SECONDS)
    assert outcome.acquisition == 2
    assert outcome.literal_bytes == 0
