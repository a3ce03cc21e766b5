"""Attack: to learn, or to get, what another case has, by digests alone. No lookup leaves the case, whatever vault.toml says."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Literal

import pytest

from evidencesync.connection import sender_connection
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.messages import Want
from evidencesync.protocol.packing import unpack_bits
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.hostile_client import ROOT
from tests.support.patience import PATIENCE_SECONDS
from tests.support.two_cases import (
    ANY_PROOF,
    MIB,
    MINE,
    NO_PROOF,
    Asker,
    Knowledge,
    fill_others_case,
    knowledge_of_nothing,
    knowledge_of_the_other_case,
)

Lookup = Literal["item", "case", "vault"]


def bench_of(folder: Path, lookup: Lookup) -> Bench:
    bench = make_bench(folder, lookup)
    fill_others_case(bench)
    return bench


def transcript_of(bench: Bench, known: Knowledge, proof: bytes) -> list[tuple[int, bytes]]:
    """All that a client receives that asks for everything, but for the signs of life: only time decides how many there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sender_connection, "SIGN_SECONDS", 2 * PATIENCE_SECONDS)
        asker = Asker(bench)
        asker.enter()
        asker.ask_everything(known, proof)
        asker.hang_up()
    return asker.transcript


@pytest.mark.parametrize("proof", [NO_PROOF, ANY_PROOF], ids=["as today", "as an earlier sender"])
def test_digests_of_another_case_are_answered_to_the_byte_like_digests_that_no_case_has(tmp_path: Path, proof: bytes) -> None:
    bench = bench_of(tmp_path, "vault")
    known = knowledge_of_the_other_case(bench)
    heard = transcript_of(bench, known, proof)
    assert heard == transcript_of(bench, knowledge_of_nothing(known), proof)
    assert len(heard) > 2 * len(known.segments)


def test_a_content_of_another_case_does_not_come_into_the_own_case_by_its_digest(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "vault")
    asker = Asker(bench)
    assert (asker.enter().known_contents, asker.ready and asker.ready.lookup) == (0, "case")
    manifest = asker.send_manifest([ROOT, *knowledge_of_the_other_case(bench).small])
    want = asker.hear(Want)
    assert all(unpack_bits(want.missing, want.count))
    asker.send(asker.finish(manifest))
    assert asker.hang_up().exit_code is ExitCode.LINK_LOST  # the vault still waits for what it asked for


@pytest.mark.parametrize(("lookup", "treated"), [("item", "item"), ("case", "case"), ("vault", "case")])
def test_a_policy_of_vault_is_treated_as_case_and_verify_says_so(tmp_path: Path, lookup: Lookup, treated: str) -> None:
    bench = bench_of(tmp_path, lookup)
    assert bench.push().literal_bytes > 12 * MIB
    assert json.loads((bench.acquisition(1) / "receipt.json").read_bytes())["lookup"] == treated
    bench.name = ItemName(MINE.case, Title("E10"))
    assert (bench.push().literal_bytes < MIB) == (treated == "case")
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
    assert verdict.verdict == "pass"
    said = [finding.message for finding in verdict.findings if finding.slug == "lookup-beyond-case"]
    assert said == (["vault.toml says lookup = 'vault', which is treated as 'case'"] if lookup == "vault" else [])
