"""Has a bench's vault verified from afar, over a link inside this process; and a vault whose owner signs what is not true."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidencesync.acquire.verdict import SignedVerdict, VerdictRequest, fetch_verdict
from evidencesync.connection.link import Link
from evidencesync.localstate.heads import HeadMemory, RecalledHeads
from evidencesync.verify.audit import AuditScope, audit_vault
from evidencesync.verify.context import VerifyProgress
from evidencesync.verify.findings import Finding, Verdict
from evidencesync.verify.from_afar import compared, joined
from evidencesync.verify.vault_verdict import VaultVerdict, encode_verdict
from tests.support.bench_of_evidence import Bench
from tests.support.reading import fetched


def asked(
    bench: Bench,
    recall: Callable[[str], None] = lambda _id: None,
    connect: Callable[[], Link] | None = None,
    notify: Callable[[str], None] = lambda _line: None,
    **changes: Any,
) -> SignedVerdict:
    """The verdict of a bench's vault on itself."""
    known: dict[str, Any] = {"signer": bench.signer, "session": "0" * 32, "scope": AuditScope()} | changes
    request = VerdictRequest(b"", **known)
    return fetch_verdict(connect or (lambda: bench.serve()[0]), request, recall, VerifyProgress(), notify)


def verified(bench: Bench, state: Path, **changes: Any) -> Verdict:
    """The same as a command ends with it, compared with what a machine remembers in this folder."""
    memory = HeadMemory(state)
    recalled = RecalledHeads(memory)
    said = asked(bench, recalled.recall_before, **changes)
    return compared(said.verdict, said.keys, recalled, time.time_ns())


def verified_fetched(bench: Bench, state: Path, folder: Path, judge: Bench | None = None, **changes: Any) -> Verdict:
    """The verdict on documents of a bench's vault that are fetched into `folder` and checked here, and on its evidence.

    `judge`: another vault, which gives the verdict on the evidence.
    """
    vault, recalled = fetched(bench, folder, HeadMemory(state), whole=None)
    here = audit_vault(vault.layout.root, memory=recalled, now_ns=time.time_ns(), fetched=True, **changes)
    said = asked(judge or bench, all_digests=changes.get("all_digests", False))
    return joined(here, vault.keys.current, said.verdict, said.keys, recalled, time.time_ns())


def lies(monkeypatch: pytest.MonkeyPatch, change: Callable[[VaultVerdict], VaultVerdict | bytes]) -> None:
    """From now on, a vault of this process signs a changed verdict with its key."""

    def encode(document: VaultVerdict) -> bytes:
        changed = change(document)
        return changed if isinstance(changed, bytes) else encode_verdict(changed)

    monkeypatch.setattr("evidencesync.ingest.verdict.encode_verdict", encode)


def with_verdict(document: VaultVerdict, **changes: Any) -> VaultVerdict:
    """The same document with another verdict in it."""
    return msgspec.structs.replace(document, verdict=msgspec.structs.replace(document.verdict, **changes))


def finding(slug: str, severity: str = "error", **changes: Any) -> Finding:
    """A finding, with whatever a test wants in it."""
    known: dict[str, Any] = dict.fromkeys(("case", "item", "acquisition", "path", "path_b64", "offset", "length"))
    known |= {"check": 7, "severity": severity, "slug": slug, "message": "said"}
    return Finding(**(known | changes))
