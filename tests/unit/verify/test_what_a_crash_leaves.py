"""An excuse holds for what a crash can leave, and for nothing that looks like it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from evidencesync.errors import ChainError, TrustChangedError
from evidencesync.vault.heads import record_heads
from evidencesync.vault.interrupted import is_begun_item, left_by_append
from evidencesync.vault.item import lock_item
from evidencesync.vault.publish import complete_unfinished
from tests.unit.vault.acquiring import Acquirer, item_name, new_signer
from tests.unit.verify.sample import ITEM, Made, edit, only, slugs

CUSTODY: Final = f"{ITEM}/custody"


# --- Records that were removed, and a publish that was interrupted -----------------------------------------------------------


def remove_records(made: Made, *numbers: int) -> None:
    for number in numbers:
        for file in (made.item / "custody").glob(f"{number:04d}-*"):
            file.unlink()


@pytest.mark.parametrize("removed", [(4,), (3, 4)], ids=["received", "both"])
def test_a_tail_that_the_vault_has_stated_was_removed_and_is_no_unfinished_publish(made: Made, removed: tuple[int, ...]) -> None:
    record_heads(made.open())
    remove_records(made, *removed)
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 34)
    assert only(verdict, "missing-record").path == CUSTODY
    assert "unfinished-publish" not in slugs(verdict, "info", "warning", "error")


def test_a_tail_that_nobody_has_stated_is_an_unfinished_publish(made: Made) -> None:
    remove_records(made, 3, 4)
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "info", "warning", "error")) == ("pass", {"unfinished-publish"})
    assert [head.sequence for head in verdict.heads if head.item is not None] == [2]  # what lies in the chain itself


@pytest.mark.parametrize("removed", [(4,), (3, 4)], ids=["received", "both"])
def test_the_next_writer_does_not_put_back_in_silence_what_was_removed(made: Made, removed: tuple[int, ...]) -> None:
    record_heads(made.open())
    remove_records(made, *removed)
    with lock_item(made.open().item(item_name())) as item, pytest.raises(ChainError, match="was removed"):
        complete_unfinished(item)
    assert not list((made.item / "custody").glob("0004-*"))


def test_what_was_published_after_the_last_statement_is_completed(made: Made) -> None:
    """The vault has stated what was there before: that is no objection."""
    record_heads(made.open())
    Acquirer(made.open(), made.examiner).acquire({b"third": b"3"})
    remove_records(made, 5, 6)
    assert slugs(made.audit(), "info", "warning", "error") == {"unfinished-publish"}
    with lock_item(made.open().item(item_name())) as item:
        assert complete_unfinished(item) == 3
    assert made.audit().findings == []


def test_a_chain_whose_folder_is_gone_was_rolled_back_if_it_was_stated(made: Made) -> None:
    record_heads(made.open())
    shutil.rmtree(made.item / "custody")
    verdict = made.audit()
    assert (verdict.exit_code, "rolled-back" in slugs(verdict)) == (34, True)


# --- Names in a custody folder ---------------------------------------------------------------------------------------------

SIGNATURE: Final = "0005-noted.json.sig"
LEFT: Final[dict[str, set[str]]] = {
    "a signature that is not whole": {".new-0005-noted.json.sig"},
    "a signature": {SIGNATURE},
    "a signature, and a record that is not whole": {SIGNATURE, ".new-0005-noted.json"},
    "a reservation of the next number": {".new-0005-1"},
    "two claims on it, of which one was void, and what was not whole": {".new-0005-1", ".new-0005-2", ".new-0123456789abcdef"},
    "the claim of the last record": {".new-0004-1", SIGNATURE},
    "half a timestamp": {".new-manifest.jsonl.sig.tsr"},
    "half a timestamp's request, and a signature": {".new-manifest.jsonl.sig.tsq", SIGNATURE},
}
FOREIGN: Final[dict[str, set[str]]] = {
    "two signatures for one next record": {SIGNATURE, "0005-sealed.json.sig"},
    "the same signature twice": {SIGNATURE, f".new-{SIGNATURE}"},
    "a signature of the record after the next": {"0006-noted.json.sig"},
    "a half written record of an earlier number": {".new-0002-noted.json"},
    "a half written record far away": {".new-0099-noted.json"},
    "a reservation of an earlier number": {".new-0003-1"},
    "a reservation of a number far away": {".new-0006-1"},
    "a reservation of no generation": {".new-0005-0"},
    "a half written anything": {".new-notes.txt"},
    "a half written nothing": {".new-"},
    "a whole record's temporary name twice over": {".new-.new-0005-noted.json"},
    "a half written record before its signature is whole": {".new-0005-noted.json", f".new-{SIGNATURE}"},
    "half a timestamp of a name of its own": {".new-manifest.jsonl.sig.tsx"},
}


@pytest.mark.parametrize("names", LEFT.values(), ids=LEFT)
def test_an_append_that_was_cut_short_leaves_one_record(names: set[str]) -> None:
    chain = {"0004-received.json", "0004-received.json.sig"}
    assert left_by_append(chain | names, 4, of_item=True) == names


@pytest.mark.parametrize("names", FOREIGN.values(), ids=FOREIGN)
def test_no_append_leaves_anything_else(names: set[str]) -> None:
    assert left_by_append(names, 4, of_item=True) == frozenset()


def test_what_an_append_that_was_cut_short_leaves_is_told_and_no_attack(made: Made) -> None:
    names = {SIGNATURE, ".new-0005-noted.json", ".new-manifest.jsonl.sig.tsr"}
    for name in names:
        (made.item / "custody" / name).write_bytes(b"half")
        (made.item / "custody" / name).chmod(0o444)
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "info", "warning", "error")) == ("pass", {"unfinished-change"})
    assert {one.path for one in verdict.findings} == {f"{CUSTODY}/{name}" for name in names}


@pytest.mark.parametrize("which", ["two signatures for one next record", "a half written anything"])
def test_what_no_append_leaves_does_not_belong_there(made: Made, which: str) -> None:
    names = FOREIGN[which]
    for name in names:
        (made.item / "custody" / name).write_bytes(b"half")
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code) == ("fail", 31)
    assert {one.path for one in verdict.findings if one.slug == "extra-entry"} == {f"{CUSTODY}/{name}" for name in names}


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_nothing_but_a_file_is_excused_by_its_name(made: Made, make: Callable[[Path], None]) -> None:
    make(made.item / "custody" / SIGNATURE)
    assert made.audit().exit_code == 31


def test_the_vaults_own_chain_has_no_timestamps_under_way() -> None:
    name = ".new-manifest.jsonl.sig.tsr"
    assert left_by_append([name], 4, of_item=True) == {name}
    assert left_by_append([name], 4, of_item=False) == frozenset()


def test_a_chain_may_have_ten_thousand_records() -> None:
    assert left_by_append(["10001-heads.json.sig"], 10_000, of_item=False)


# --- Lists of signers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trusted_signers", "revoked_keys"])
def test_the_stated_list_beside_a_rogue_one_does_not_hide_it(made: Made, name: str) -> None:
    stated = (made.path / name).read_bytes()
    (made.path / f".new-{name}").write_bytes(stated)
    edit(made.path / name, stated + b"# rogue\n")
    verdict = made.audit()
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 32, {"trust-changed"})
    assert only(verdict, "trust-changed").path == name
    with pytest.raises(TrustChangedError):
        made.open().load_trust()


def test_a_list_that_was_never_recorded_counts_for_nothing(made: Made) -> None:
    (made.path / ".new-trusted_signers").write_bytes(b"# half")
    found = only(made.audit(), "unfinished-change")
    assert (found.path, "nothing of it counts" in found.message) == (".new-trusted_signers", True)


def test_a_list_from_before_the_last_change_but_one_is_no_interrupted_change(made: Made) -> None:
    oldest = (made.path / "trusted_signers").read_bytes()
    for name in ("bea", "cem"):
        made.open().trust.add(new_signer().public_key, name)
    (made.path / ".new-trusted_signers").write_bytes((made.path / "trusted_signers").read_bytes())
    edit(made.path / "trusted_signers", oldest)
    assert slugs(made.audit()) == {"trust-changed"}


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_only_a_file_may_lie_beside_a_list(made: Made, make: Callable[[Path], None]) -> None:
    make(made.path / ".new-trusted_signers")
    assert only(made.audit(), "wrong-type").path == ".new-trusted_signers"


# --- Folders ---------------------------------------------------------------------------------------------------------------


def test_a_case_without_items_is_told(made: Made) -> None:
    (made.path / "cases" / "empty").mkdir()
    verdict = made.audit()
    assert (verdict.verdict, only(verdict, "empty-case").path) == ("pass", "cases/empty")


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_item_whose_folders_were_being_made_is_told_and_no_attack(made: Made, count: int) -> None:
    item = made.path / "cases" / "other" / "1"
    for name in ("acquisitions", "custody", "incoming")[:count]:
        (item / name).mkdir(parents=True)
    item.mkdir(parents=True, exist_ok=True)
    verdict = made.audit()
    assert (verdict.verdict, only(verdict, "empty-item").path) == ("pass", "cases/other/1")


def test_an_item_without_folders_that_had_records_lost_them(made: Made) -> None:
    record_heads(made.open())
    for name in ("acquisitions", "custody", "incoming"):
        shutil.rmtree(made.item / name)
    verdict = made.audit()
    assert (verdict.exit_code, "rolled-back" in slugs(verdict)) == (34, True)


def test_folders_are_made_in_their_order() -> None:
    assert is_begun_item({})
    assert not is_begun_item({"custody": True})
    assert not is_begun_item({"acquisitions": False})
    assert not is_begun_item({"acquisitions": True, "custody": True, "incoming": True})


# --- Keys ------------------------------------------------------------------------------------------------------------------

THINGS: Final[dict[str, Callable[[Path], None]]] = {
    "a folder": Path.mkdir,
    "a FIFO": os.mkfifo,
    "a link": lambda place: place.symlink_to("/etc/hostname"),
}


@pytest.mark.parametrize("make", THINGS.values(), ids=THINGS)
def test_a_key_that_is_no_file_is_found(made: Made, make: Callable[[Path], None]) -> None:
    names = {"vault_key", "host_key", "host_key.pub"}
    for name in names:
        (made.path / name).unlink(missing_ok=True)
        make(made.path / name)
    verdict = made.audit()
    assert (verdict.exit_code, {one.path for one in verdict.findings if one.slug == "wrong-type"}) == (31, names)


@pytest.mark.parametrize(("name", "mode"), [("vault_key", 0o604), ("host_key", 0o604), ("host_key", 0o620)])
def test_a_private_key_that_others_reach_is_told(made: Made, name: str, mode: int) -> None:
    (made.path / name).touch()
    (made.path / name).chmod(0o600)
    assert made.audit().findings == []
    (made.path / name).chmod(mode)
    found = only(made.audit(), "unsafe-mode")
    assert (found.path, f"{mode:04o}" in found.message) == (name, True)
