"""Attack: a key that is trusted when the session begins and not when it ends, or that is not the one of the session."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from evidencesync.custody.documents import MANIFEST_NAMESPACE
from evidencesync.custody.sshsig import sign_document
from evidencesync.custody.statements import ItemHistory
from evidencesync.errors import UntrustedSignerError
from evidencesync.evidence.digest import sha512_of
from evidencesync.exit_codes import ExitCode
from evidencesync.ingest import custody
from evidencesync.ingest import receive as vaults_end
from evidencesync.ingest import session as ingest_session
from evidencesync.vault.item import VaultItem
from evidencesync.vault.readback import read_back
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, new_signer
from tests.support.custody_client import state
from tests.support.hostile_client import ROOT, HostileClient, entry_of


def test_a_key_that_is_revoked_during_the_transfer_publishes_nothing(bench: Bench) -> None:
    client = HostileClient(bench)
    client.shake_hands()
    manifest = client.send_manifest([ROOT, entry_of(b"planted", content=b"x")], [b"x"])
    bench.vault.trust.revoke(bench.signer.public_key, "stolen")
    client.send(client.finish(manifest))
    assert client.ended().exit_code is ExitCode.SIGNATURE
    assert bench.acquisitions() == []


def test_another_key_of_the_same_person_does_not_finish_the_session(bench: Bench) -> None:
    client = HostileClient(bench)
    client.shake_hands()
    manifest = client.send_manifest([ROOT, entry_of(b"planted", content=b"x")], [b"x"])
    other = new_signer()
    bench.vault.trust.add(other.public_key, "ana@lab")
    client.send(client.finish(manifest, signature=sign_document(other, MANIFEST_NAMESPACE, sha512_of(manifest))))
    assert client.ended().exit_code is ExitCode.SIGNATURE
    assert bench.acquisitions() == []


@pytest.mark.parametrize("change", ["retire", "revoke"])
def test_a_key_that_is_given_up_while_the_disk_is_read_back_publishes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Else there would be an acquisition that no verification ever passes: it is judged by the time of its receipt."""
    (bench.source / "file").write_bytes(b"evidence")
    start = time.time_ns()
    clock = [start]

    def long_read_back(*given: Any) -> Any:
        getattr(bench.vault.trust, change)(bench.signer.public_key, at_ns=start + 3600 * 10**9)
        clock[0] = start + 7200 * 10**9
        return read_back(*given)

    monkeypatch.setattr(ingest_session, "read_back", long_read_back)
    monkeypatch.setattr(vaults_end._Session, "__init__", _with_clock(vaults_end._Session.__init__, lambda: clock[0]))
    with pytest.raises(UntrustedSignerError):
        bench.push()
    assert bench.acquisitions() == []
    found = audit_vault(bench.vault.layout.root, now_ns=clock[0]).findings
    assert not [one for one in found if one.severity == "error"]


def test_a_note_that_was_taken_while_a_key_is_retired_stands(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vault says since when a record has been there by the same clock reading by which it looked who is trusted."""
    (bench.source / "file").write_bytes(b"evidence")
    bench.push()
    clock = [time.time_ns()]
    history = custody._read_history

    def slow_read(item: VaultItem) -> ItemHistory:
        bench.vault.trust.retire(bench.signer.public_key, at_ns=clock[0] + 3600 * 10**9)
        clock[0] += 7200 * 10**9
        return history(item)

    monkeypatch.setattr(custody, "_read_history", slow_read)
    monkeypatch.setattr(vaults_end._Session, "__init__", _with_clock(vaults_end._Session.__init__, lambda: clock[0]))
    state(bench, "noted", {"text": "seen"})
    found = audit_vault(bench.vault.layout.root, now_ns=clock[0]).findings
    assert not [one for one in found if one.severity == "error"]


def _with_clock(make: Callable[..., None], now: Callable[[], int]) -> Callable[..., None]:
    return lambda session, link, vault, caller, _now: make(session, link, vault, caller, now)
