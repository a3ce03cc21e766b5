"""Reads a vault's documents from afar, over a link inside this process."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evidencesync.acquire.documents import DocumentsRequest, fetch_documents
from evidencesync.connection.link import Link
from evidencesync.localstate.heads import HeadMemory, RecalledHeads
from evidencesync.vault.vault import Vault
from tests.support.bench_of_evidence import Bench


def fetched(
    bench: Bench, folder: Path, memory: HeadMemory | None = None, connect: Callable[[], Link] | None = None, **changes: Any
) -> tuple[Vault, RecalledHeads]:
    """The documents of a bench's vault in new folders below `folder`, and what was known of it before they were read."""
    recalled = RecalledHeads(memory or HeadMemory(folder / "state"))
    folders = (folder / f"documents{number}" for number in itertools.count())

    def make_folder() -> Path:
        made = next(one for one in folders if not one.exists())
        made.mkdir(0o700, parents=True)
        return made

    request = DocumentsRequest(b"", **{"signer": bench.signer, "session": "0" * 32, **changes})
    vault, session = fetch_documents(connect or (lambda: bench.serve()[0]), request, recalled.recall_before, make_folder)
    session.close()
    return vault, recalled
