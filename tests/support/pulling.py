"""Pulls inside this process: a real source's end and a real vault's end, each in a thread."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from evidencesync.acquire.connect import connect_for_pull
from evidencesync.acquire.pull import pull
from evidencesync.acquire.request import PushOutcome
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.connection.link import Link, LocalLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.errors import EvidenceSyncError
from evidencesync.serve.source_server import serve_source
from tests.support.bench_of_evidence import Bench

FarEnd = Callable[[LocalLink], None]


def far_end(offered: Path, now: Callable[[], int] = time.time_ns) -> FarEnd:
    """What `serve --source` does with a link."""

    def serve(link: LocalLink) -> None:
        with contextlib.suppress(EvidenceSyncError):  # the other end is told
            serve_source(link, os.fsencode(offered), now)

    return serve


def link_to(serve: FarEnd) -> LocalLink:
    """Our end of a link to a source's end that runs in a thread."""
    ours, theirs = local_pair()
    threading.Thread(target=serve, args=(theirs,), daemon=True).start()
    return ours


def pull_from(
    bench: Bench,
    serve: FarEnd | None = None,
    *,
    link: Link | None = None,
    again: Callable[[], Link] | None = None,
    recorder: SessionRecorder = SessionRecorder(),  # noqa: B008 - frozen, and empty
    **changes: object,
) -> PushOutcome:
    """Pulls the bench's source (or what `serve` says, or what comes over `link`) into its vault."""
    vault = partial(connect_for_pull, str(bench.vault.layout.root))
    request = bench.request(**{"vault": b"", **changes})
    return pull(link or link_to(serve or far_end(bench.source)), vault, request, Progress(), again=again, recorder=recorder)
