from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidencesync.vault.item import lock_item
from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.ledger import Ledger, StoredRecord, iter_records
from evidencesync.vault.publish import complete_unfinished
from evidencesync.verify.audit import audit_vault
from tests.support.patience import PATIENCE_SECONDS
from tests.unit.vault.acquiring import Acquirer, new_vault

KEY = bytes(range(32))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def acquirer(tmp_path: Path) -> Acquirer:
    examiner = VaultSigner(Ed25519PrivateKey.from_private_bytes(KEY))
    return Acquirer(new_vault(tmp_path / "vault", examiner), examiner)


def run_writers(acquirer: Acquirer, count: int, *jobs: str) -> dict[str, list[str]]:
    """Runs a process for each job, all at once and with no lock that holds; what each job had acknowledged."""
    processes = []
    for number, what in enumerate(jobs):
        command = [sys.executable, "-m", "tests.faults.unlocked_writer", str(acquirer.vault.layout.root), KEY.hex(), what]
        command += [str(count), chr(ord("a") + number)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said: dict[str, list[str]] = {}
    for what, process in zip(jobs, processes, strict=True):
        out, error = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, error
        lines = [line.split() for line in out.splitlines()]
        assert len(lines) >= count
        assert all(word == "added" or slug in ("chain-grew", "locked") for word, slug in lines), lines
        said.setdefault(what, []).extend(slug for word, slug in lines if word == "added")
    return said


def records(ledger: Ledger) -> list[StoredRecord]:
    return list(iter_records(ledger))


def test_two_writers_of_the_vaults_chain_lose_no_record_where_no_lock_holds(acquirer: Acquirer) -> None:
    acquirer.acquire({b"file": b"1"})
    said = run_writers(acquirer, 15, "heads", "trust")
    assert len(said["heads"]) == len(said["trust"]) == 15  # whoever comes second signs anew
    chain = records(acquirer.vault.ledger)
    assert [one.record.sequence for one in chain] == list(range(1, len(chain) + 1))
    stated = [value.split()[1] for one in chain if one.record.type == "heads" for value in one.record.details.values()]
    assert sorted(stated) == sorted(said["heads"])
    keys = [one.record.details["key"] for one in chain if one.record.type == "trust-changed"]
    assert sorted(keys) == sorted(said["trust"])
    assert not [path.name for path in acquirer.vault.layout.custody.iterdir() if path.name.startswith(".")]


def test_two_changes_of_trust_at_once_lose_no_signer_where_no_lock_holds(acquirer: Acquirer) -> None:
    said = run_writers(acquirer, 8, "trust", "trust")
    assert len(said["trust"]) == 16
    trusted = {known.signer.key.fingerprint for known in acquirer.vault.trust.signers()}
    assert trusted >= set(said["trust"])
    assert errors(acquirer) == []


def test_a_publish_and_notes_at_once_leave_a_whole_chain_where_no_lock_holds(acquirer: Acquirer) -> None:
    acquirer.acquire({b"file": b"1"})
    said = run_writers(acquirer, 6, "publish", "publish", "note")
    with lock_item(acquirer.item()) as item:
        complete_unfinished(item)
        item.state()
    chain = records(acquirer.item().ledger)
    notes = [one.record.details["text"] for one in chain if one.record.type == "noted"]
    assert sorted(notes) == sorted(said["note"])
    sessions = [acquirer.item().header(number).session for number in acquirer.item().acquisitions()]
    assert set(said["publish"]) <= set(sessions)
    assert len(set(sessions)) == len(sessions)
    assert said["publish"]
    assert said["note"]


def errors(acquirer: Acquirer) -> list[str]:
    verdict = audit_vault(acquirer.vault.layout.root, now_ns=time.time_ns())
    return [finding.slug for finding in verdict.findings if finding.severity == "error"]
