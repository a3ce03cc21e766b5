"""What verify remembers, and what it finds because it does; and what the vault's own chain shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evidencesync.localstate.heads import HeadMemory
from evidencesync.vault.heads import record_heads, state_head
from evidencesync.vault.ledger import ChainHead
from tests.unit.vault.acquiring import Acquirer, item_name
from tests.unit.verify.sample import FIRST, SECOND, Made, edit, only, slugs


@pytest.fixture
def memory(tmp_path: Path) -> HeadMemory:
    return HeadMemory(tmp_path / "state")


def remembered(made: Made, memory: HeadMemory) -> dict[str | None, int]:
    return {one.subject.item: one.chain.sequence for one in memory.recall_vault(made.open().settings.id)}


def acquire(made: Made) -> None:
    Acquirer(made.open(), made.examiner).acquire(SECOND)


def test_heads_are_remembered_after_a_pass_alone(made: Made, memory: HeadMemory) -> None:
    file = made.acquisition(1) / "data" / "a.txt"
    edit(file, b"wrong")
    assert made.audit(memory=memory).verdict == "fail"
    assert remembered(made, memory) == {}
    edit(file, FIRST[b"a.txt"])
    assert made.audit(memory=memory).verdict == "pass"
    assert remembered(made, memory) == {"3-a": 4, None: 1}


def test_a_vault_that_goes_on_passes_again(made: Made, memory: HeadMemory) -> None:
    made.audit(memory=memory)
    acquire(made)
    assert made.audit(memory=memory).findings == []
    assert remembered(made, memory) == {"3-a": 6, None: 1}


def test_an_older_copy_is_called_that(made: Made, memory: HeadMemory, tmp_path: Path) -> None:
    shutil.copytree(made.path, tmp_path / "backup", symlinks=True)
    acquire(made)
    record_heads(made.open())
    assert made.audit(memory=memory).verdict == "pass"
    verdict = Made(tmp_path / "backup", made.examiner).audit(memory=memory)
    assert (verdict.exit_code, slugs(verdict)) == (34, {"older-copy"})
    assert len(verdict.findings) == 2
    for finding in verdict.findings:
        assert "ends with record" in finding.message
        assert "this machine has seen it up to record" in finding.message


def test_another_history_is_a_fork(made: Made, memory: HeadMemory, tmp_path: Path) -> None:
    shutil.copytree(made.path, tmp_path / "backup", symlinks=True)
    acquire(made)
    assert made.audit(memory=memory).verdict == "pass"
    other = Made(tmp_path / "backup", made.examiner)
    for _ in range(2):
        acquire(other)
        verdict = other.audit(memory=memory)
        assert (verdict.exit_code, slugs(verdict), only(verdict, "forked").item) == (34, {"forked"}, "3-a")


def test_an_item_that_is_gone_is_found_by_whoever_remembers_it(made: Made, memory: HeadMemory) -> None:
    Acquirer(made.open(), made.examiner, item_name("2026/118", "1")).acquire(FIRST)
    assert made.audit(memory=memory).verdict == "pass"
    shutil.rmtree(made.path / "cases" / item_name("2026/118", "1").case.folder)
    verdict = made.audit(memory=memory)
    assert (verdict.exit_code, only(verdict, "rolled-back").case) == (34, "2026/118")
    assert made.audit(memory=memory, case="2026/117").verdict == "pass"


def test_a_memory_that_cannot_be_read_is_never_a_pass(made: Made, memory: HeadMemory, tmp_path: Path) -> None:
    made.audit(memory=memory)
    for file in (tmp_path / "state" / "heads").rglob("*.json"):
        file.write_bytes(b"")
    verdict = made.audit(memory=memory)
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("incomplete", 3, {"memory-damaged"})
    assert "receipts forget-head" in only(verdict, "memory-damaged").message


def test_a_machine_that_cannot_remember_says_so_and_passes(made: Made, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    verdict = made.audit(memory=HeadMemory(tmp_path / "state" / "below"))
    assert slugs(verdict, "error", "warning") <= {"memory-damaged", "not-remembered"}
    verdict = made.audit(memory=HeadMemory(Path("/proc/nowhere")))
    assert (verdict.verdict, slugs(verdict, "warning")) == ("pass", {"not-remembered"})


def test_the_vaults_own_head_can_be_expected(made: Made) -> None:
    record_heads(made.open())
    head = made.open().ledger.head()
    assert made.audit(expect_head=head.sha256).verdict == "pass"
    for file in (made.path / "custody").glob(f"{head.sequence:04}-*"):
        file.unlink()
    verdict = made.audit(expect_head=head.sha256)
    assert (verdict.exit_code, slugs(verdict)) == (34, {"rolled-back"})


def test_heads_that_are_stated_after_a_rollback_do_not_hide_it(made: Made) -> None:
    record_heads(made.open())
    shutil.rmtree(made.acquisition(2))
    for number in ("0003", "0004"):
        for file in made.item.glob(f"custody/{number}-*"):
            file.unlink()
    record_heads(made.open())
    verdict = made.audit()
    assert (verdict.exit_code, only(verdict, "rolled-back").item) == (34, "3-a")
    acquire(made)
    verdict = made.audit()
    assert (verdict.exit_code, only(verdict, "forked").item) == (34, "3-a")


def test_a_head_that_was_stated_already_is_stated_once(made: Made) -> None:
    vault = made.open()
    head = vault.item(item_name()).ledger.head()
    for _ in range(3):
        state_head(vault, item_name(), head, may_be_stated=True)
    assert vault.ledger.head().sequence == 2
    state_head(vault, item_name(), ChainHead(head.sequence, head.sha256))
    assert vault.ledger.head().sequence == 3
    assert made.audit().findings == []


def test_heads_of_an_item_that_cannot_be_read_are_left_out(made: Made) -> None:
    Acquirer(made.open(), made.examiner, item_name("2026/118", "1")).acquire(FIRST)
    next(made.item.glob("custody/0002-*.json")).unlink()
    assert record_heads(made.open()) == 1
