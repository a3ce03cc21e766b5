"""Restores from a bench's vault as from a far one, over links inside this process."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evidencesync.acquire.documents import DocumentsRequest, fetch_documents
from evidencesync.acquire.evidence import EvidenceStream
from evidencesync.acquire.far_contents import FarContents, FarCounts
from evidencesync.acquire.local_basis import LocalBasis
from evidencesync.acquire.reading_session import FarReader
from evidencesync.connection.event_log import Events
from evidencesync.connection.link import Link
from evidencesync.localstate.heads import HeadMemory
from evidencesync.restore.contents import Acquired
from evidencesync.restore.restore import Restored, RestoreProgress, RestoreRequest, restore
from evidencesync.restore.tree import OnDamage
from evidencesync.verify.audit import verified_manifest
from tests.support.bench_of_evidence import Bench
from tests.support.kept_events import KeptEvents

_NUMBERS = itertools.count()


@dataclass
class FarRestore:
    """What came of one restore."""

    restored: Restored
    counts: FarCounts
    progress: RestoreProgress
    stream: EvidenceStream
    log: KeptEvents


def restore_far(
    bench: Bench,
    folder: Path,
    *,
    acquisition: int = 1,
    connect: Callable[[], Link] | None = None,
    retries: int = 0,
    basis: Path | None = None,
    paths: tuple[bytes, ...] = (),
    on_damage: OnDamage = "fail",
) -> FarRestore:
    """Restores an acquisition to `folder`; what is fetched of documents lies beside it."""
    beside = folder.with_name(f"documents{next(_NUMBERS)}")
    beside.mkdir()
    name = bench.name
    made = connect or (lambda: bench.serve()[0])
    request = DocumentsRequest(b"", bench.signer, "0" * 32, name.case.text, name.item.text, (acquisition,), timeout_seconds=20.0)
    vault, session = fetch_documents(made, request, lambda _: None, lambda: beside)
    far = FarReader(made, request, session)
    stream = EvidenceStream(far, name.case.text, name.item.text, acquisition, retries)
    counts, progress, log = FarCounts(stream=stream), RestoreProgress(), KeptEvents()
    stream.events = Events(log, "restore")
    memory = HeadMemory(beside.with_name(f"{beside.name}-state"))

    def open_contents(acquired: Acquired) -> FarContents:
        return FarContents(acquired, stream, acquisition, counts, None if basis is None else LocalBasis(os.fsencode(basis)))

    try:
        wanted = RestoreRequest(
            vault=vault.layout.root,
            folder=vault.item(name).layout.acquisition(acquisition),
            manifest_sha256=verified_manifest(vault.layout.root, name, acquisition, None, memory, time.time_ns(), fetched=True),
            destination=os.fsencode(folder),
            paths=paths,
            on_damage=on_damage,
        )
        return FarRestore(restore(wanted, progress, open_contents), counts, progress, stream, log)
    finally:
        session.close()
