"""Fixtures for the vault's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.vault import Vault
from tests.unit.vault.acquiring import Acquirer, new_signer, new_vault


@pytest.fixture
def examiner() -> VaultSigner:
    return new_signer()


@pytest.fixture
def vault(tmp_path: Path, examiner: VaultSigner) -> Vault:
    return new_vault(tmp_path / "vault", examiner)


@pytest.fixture
def acquirer(vault: Vault, examiner: VaultSigner) -> Acquirer:
    return Acquirer(vault, examiner)
