"""Records of items and those of the vault's own chain are counted apart, wherever a check says how much it has seen."""

from __future__ import annotations

import pytest

from evidencesync.cli.verify_command import verdict_lines
from evidencesync.cli.verify_record import verdict_details
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Checked, Findings, Head, own_records, records_text
from tests.support.bench_of_evidence import make_bench
from tests.support.moments import LONG_AFTER_NS


def test_a_check_of_one_item_says_of_how_many_of_its_records(tmp_path_factory: pytest.TempPathFactory) -> None:
    bench = make_bench(tmp_path_factory.mktemp("counted"))
    (bench.source / "a.txt").write_text("a")
    bench.push()
    verdict = audit_vault(bench.vault.layout.root, case="2026/11", item="E1", now_ns=LONG_AFTER_NS)
    own = len(list((bench.vault.layout.root / "custody").glob("*.json")))
    assert verdict.checked.records == 2 + own
    assert f" 2 custody records and {own} of the vault's own," in next(verdict_lines(verdict))
    (head,) = [one for one in verdict.heads if one.item is not None]
    details = verdict_details(verdict, Findings(), head, "item")
    assert (details["records"], details["vault_records"]) == ("2", str(own))


def test_without_a_head_of_the_vaults_own_chain_none_of_its_records_are_counted_apart() -> None:
    checked = Checked(1, 1, 1, 1, 5, 0, 0)
    assert (own_records(checked, []), records_text(checked, [])) == (0, "5 custody records")
    assert records_text(checked, [Head(None, None, 9, "0" * 64)]) == "0 custody records and 5 of the vault's own"
