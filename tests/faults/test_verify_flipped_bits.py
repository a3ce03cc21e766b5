"""Bits flipped anywhere under `cases/`: never a pass, never an exception, and the document is named."""

from __future__ import annotations

import os
import random
from pathlib import Path

from evidencesync.evidence.path import from_json_fields
from evidencesync.verify.audit import audit_vault
from tests.unit.vault.acquiring import Acquirer, new_signer, new_vault

SEED = 20_260_117
FLIPS = 500


def test_random_bits_all_over_a_small_vault(tmp_path: Path) -> None:
    path = tmp_path / "vault"
    examiner = new_signer()
    acquirer = Acquirer(new_vault(path, examiner), examiner)
    acquirer.acquire({b"a": b"one", b"d/b": b"two" * 100})
    acquirer.acquire({b"a": b"one", b"d/b": b"three" * 100})
    files = sorted(Path(folder) / name for folder, _, names in os.walk(path / "cases") for name in names)
    places = [(file, offset) for file in files for offset in range(file.stat().st_size)]
    assert len(places) > 15_000
    choice = random.Random(SEED)
    for file, offset in choice.sample(places, FLIPS):
        bit = 1 << choice.randrange(8)
        flip(file, offset, bit)
        verdict = audit_vault(path, now_ns=1_800_000_000_000_000_000)
        flip(file, offset, bit)
        assert verdict.verdict == "fail", (file, offset, bit)
        named = {
            from_json_fields(one.path, one.path_b64)
            for one in verdict.findings
            if one.severity == "error" and (one.path or one.path_b64)
        }
        assert os.fsencode(file.relative_to(path)) in named, (file, offset, bit, verdict.findings)
    assert audit_vault(path, now_ns=1_800_000_000_000_000_000).findings == []


def flip(file: Path, offset: int, bit: int) -> None:
    file.chmod(0o644)
    with file.open("r+b") as stored:
        stored.seek(offset)
        (byte,) = stored.read(1)
        stored.seek(offset)
        stored.write(bytes([byte ^ bit]))
    file.chmod(0o444)
