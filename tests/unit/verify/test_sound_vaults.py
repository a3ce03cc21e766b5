"""What is as it should be passes, and verify leaves no trace."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidencesync.errors import UsageError
from evidencesync.evidence.identity import folder_name
from evidencesync.vault.catalog import stated_totals
from evidencesync.vault.file_checks import FileChecks
from evidencesync.vault.heads import record_heads
from evidencesync.vault.index.index import BEYOND_CASES, rebuild
from evidencesync.vault.layout import NEW_STATED_HEADS, STATED_HEADS
from evidencesync.verify.context import VerifyProgress
from tests.support.unreadable import Unreadable
from tests.unit.vault.acquiring import Acquirer, item_name, new_signer, new_vault
from tests.unit.verify.sample import FIRST, SECOND, Made, only, slugs


def test_a_sound_vault_passes_without_a_finding(made: Made) -> None:
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, verdict.findings) == ("pass", 0, [])
    checked = verdict.checked
    assert (checked.vaults, checked.cases, checked.items, checked.acquisitions, checked.records) == (1, 1, 1, 2, 5)
    assert checked.files == len(FIRST) + len(SECOND)
    assert checked.bytes == sum(map(len, FIRST.values())) + sum(map(len, SECOND.values()))
    assert verdict.digests == ["blake3"]


def test_all_digests_are_checked_on_request(made: Made) -> None:
    verdict = made.audit(all_digests=True)
    assert (verdict.verdict, verdict.findings, verdict.digests) == ("pass", [], ["blake3", "sha256"])


def test_one_acquisition_can_be_named(made: Made) -> None:
    verdict = made.audit(case="2026/117", item="3-a", acquisition=2)
    assert (verdict.verdict, verdict.checked.acquisitions, verdict.checked.files) == ("pass", 1, len(SECOND))


def test_an_interrupt_at_the_end_of_a_comparison_leaves_no_thread_behind(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process would wait for it for ever: the interpreter joins threads before it ends."""
    finish = FileChecks.finish

    def interrupted(checks: FileChecks) -> None:
        finish(checks)
        raise KeyboardInterrupt

    monkeypatch.setattr(FileChecks, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt) as _raised:  # the traceback keeps everything alive that was not closed
        made.audit()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("compare")] == []


def test_every_chain_head_is_told(made: Made) -> None:
    heads = {(one.case, one.item): (one.sequence, one.sha256) for one in made.audit().heads}
    ledger = made.open().item(item_name()).ledger
    assert heads["2026/117", "3-a"] == (4, ledger.head().sha256)
    assert heads[None, None] == (1, made.open().ledger.head().sha256)


def test_a_head_that_is_still_in_a_chain_is_found(made: Made) -> None:
    ledger = made.open().item(item_name()).ledger
    seen = ledger.load(ledger.files()[1]).sha256
    assert made.audit(expect_head=seen).verdict == "pass"


def test_progress_ends_at_what_the_receipts_promised(made: Made) -> None:
    progress = VerifyProgress()
    checked = made.audit(progress=progress).checked
    layout = made.open().layout
    assert (progress.files, progress.bytes) == stated_totals(layout, None, None, None)[:2] == (checked.files, checked.bytes)
    one = made.audit(case="2026/117", item="3-a", acquisition=2).checked
    assert stated_totals(layout, folder_name("2026/117"), "3-a", 2)[:2] == (one.files, one.bytes)


def test_nothing_in_the_vault_is_touched(made: Made) -> None:
    def state() -> dict[str, tuple[int, int, int]]:
        paths = [Path(folder) / name for folder, folders, files in os.walk(made.path) for name in folders + files]
        return {str(path): ((found := path.lstat()).st_mtime_ns, found.st_ctime_ns, found.st_ino) for path in paths}

    before = state()
    made.audit(all_digests=True)
    assert state() == before


def test_signed_heads_and_an_index_that_agree_are_no_finding(made: Made) -> None:
    vault = made.open()
    assert record_heads(vault) == 1
    index = vault.index()
    rebuild(vault.layout, index)
    index.close()
    assert made.audit().findings == []


def test_what_an_earlier_version_left_beside_the_indexes_belongs_there(made: Made) -> None:
    (made.path / "index").mkdir(exist_ok=True)
    (made.path / "index" / BEYOND_CASES).write_bytes(b"SQLite format 3\0")
    assert made.audit().findings == []


def test_an_index_of_something_else_is_a_warning_alone(made: Made) -> None:
    vault = made.open()
    index = vault.index()
    rebuild(vault.layout, index)
    index.close()
    Acquirer(vault, made.examiner).acquire({b"new": b"new"})
    (made.path / "index" / "gone.sqlite").write_bytes(b"not SQLite")
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "warning")) == ("pass", {"index-differs"})
    assert len(verdict.findings) == 2


def test_a_damaged_index_is_a_warning_alone(made: Made) -> None:
    (made.path / "index" / "2026-117-2db29d5b.sqlite").write_bytes(b"not SQLite" * 100)
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "warning", "error")) == ("pass", {"index-differs"})


@pytest.mark.parametrize("name", [STATED_HEADS, NEW_STATED_HEADS, BEYOND_CASES])
def test_what_lies_beside_the_indexes_of_cases_is_nothing_to_warn_of(made: Made, name: str) -> None:
    (made.path / "index").mkdir(exist_ok=True)
    (made.path / "index" / name).write_bytes(b"half")
    assert made.audit().findings == []


@pytest.mark.parametrize("how", ["open", "read"])
def test_a_folder_of_indexes_that_another_user_may_not_read_leaves_the_verdict(
    made: Made, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Its mode is 0700, whatever that of the vault is."""
    vault = made.open()
    vault.index().close()
    Unreadable(monkeypatch, vault.layout.index, how)
    verdict = made.audit()
    assert (verdict.verdict, [(one.check, one.slug) for one in verdict.findings]) == ("pass", [(11, "index-not-read")])


@pytest.mark.parametrize("refused", ["stat", "open", "read", "undo"])
def test_an_index_that_cannot_be_read_is_not_called_different(made: Made, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    """Nobody has seen what is in it. Nothing relies on it either, so the verdict stands."""
    vault = made.open()
    index = vault.index()
    rebuild(vault.layout, index)
    index.close()
    codes = {"open": sqlite3.SQLITE_CANTOPEN, "read": sqlite3.SQLITE_IOERR | 1 << 8, "undo": sqlite3.SQLITE_READONLY | 1 << 8}
    lstat = os.lstat
    real: Callable[..., sqlite3.Connection] = sqlite3.connect

    def no_lstat(path: bytes, **more: int | None) -> os.stat_result:
        if bytes(path).endswith(b".sqlite"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return lstat(path, **more)

    def no_connect(path: str, **more: Any) -> sqlite3.Connection:
        if "/index/" not in path:
            return real(path, **more)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = codes[refused]
        raise error

    if refused == "stat":
        monkeypatch.setattr(os, "lstat", no_lstat)
    else:
        monkeypatch.setattr(sqlite3, "connect", no_connect)
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "warning", "error")) == ("pass", {"index-not-read"})
    (found,) = verdict.findings
    assert (found.severity, "Errno" in found.message, "b'" in found.message) == ("warning", False, False), found


def test_an_empty_vault_is_not_called_verified(tmp_path: Path) -> None:
    path = tmp_path / "vault"
    new_vault(path, new_signer())
    verdict = Made(path, new_signer()).audit(now_ns=time.time_ns())
    assert (verdict.verdict, verdict.exit_code) == ("incomplete", 3)
    assert only(verdict, "nothing-to-verify").severity == "warning"


def test_an_item_that_never_got_anything_is_said_and_does_not_fail(made: Made) -> None:
    made.open().item(item_name("2026/117", "4"), create=True)
    verdict = made.audit()
    assert (verdict.verdict, only(verdict, "empty-item").item) == ("pass", "4")


@pytest.mark.parametrize(
    "selection",
    [
        {"case": "none"},
        {"case": "2026/117", "item": "none"},
        {"case": "2026/117", "item": "3-a", "acquisition": 3},
    ],
)
def test_what_was_named_and_is_not_there_is_exit_10(made: Made, selection: dict[str, object]) -> None:
    verdict = made.audit(**selection)
    assert (verdict.verdict, verdict.exit_code) == ("incomplete", 10)
    assert "not-there" in slugs(verdict)


@pytest.mark.parametrize("name", ["absent", "file", "folder"])
def test_what_is_no_vault_is_exit_10(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    verdict = Made(tmp_path / name, new_signer()).audit()
    assert (verdict.verdict, verdict.exit_code, verdict.checked.vaults) == ("incomplete", 10, 0)


def test_arguments_that_make_no_sense_are_refused(made: Made) -> None:
    for options in ({"item": "3-a"}, {"case": "2026/117", "acquisition": 1}, {"expect_head": "abc"}):
        with pytest.raises(UsageError):
            made.audit(**options)
