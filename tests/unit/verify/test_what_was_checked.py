"""`verify -v` says of each acquisition what was read, who signed it, and by what time that was judged."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench, new_signer


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "a").write_bytes(b"hello")
    made.push()
    return made


def checked(bench: Bench, caplog: pytest.LogCaptureFixture, trusted: bytes | None = None) -> list[str]:
    with caplog.at_level(logging.INFO, "evidencesync.verify"):
        audit_vault(bench.vault.layout.root, trusted=trusted, now_ns=time.time_ns())
    return [record.getMessage() for record in caplog.records]


def test_each_acquisition_has_its_signer_its_key_and_the_time_that_counts(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    vault, acquisition = checked(bench, caplog)
    assert bench.vault.settings.id in vault
    assert vault.endswith("by the vault's own list of signers")
    assert acquisition.startswith(f"{bench.name}, acquisition 1: read 1 file, 5 B; signed by Ana (ana@lab) with SHA256:")
    assert ", trusted at " in acquisition
    assert acquisition.endswith("when the vault signed for it; without a good timestamp")


def test_a_signer_who_is_not_trusted_is_not_called_trusted(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    stranger = new_signer().public_key.line("eve@lab")
    vault, acquisition = checked(bench, caplog, f"eve@lab {stranger}\n".encode())
    assert vault.endswith("by signers from outside")
    assert ", NOT trusted at " in acquisition


def test_a_signature_that_is_not_good_has_no_signer(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    manifest = bench.acquisition(1) / "manifest.jsonl"
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes().replace(b'"size":5', b'"size":6'))
    assert "the manifest's signature is not good, or could not be checked" in checked(bench, caplog)[1]
