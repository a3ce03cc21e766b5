"""`--quick`: what looks as it did is not read again, the manifest says so, and everything else is as after a full run."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from evidencesync.acquire import earlier
from evidencesync.acquire.handshake import Handshake
from evidencesync.acquire.push import push
from evidencesync.acquire.request import PushOutcome
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.acquire.unchanged import UnchangedSource, earlier_files
from evidencesync.cli.catalog import files_lines, files_output, list_output, show_output
from evidencesync.cli.catalog_commands import _list_lines, _show_lines
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import Earlier
from evidencesync.custody.manifest import decode_header
from evidencesync.errors import LinkLostError
from evidencesync.localstate.files import KeptFolder
from evidencesync.localstate.heads import HeadMemory
from evidencesync.localstate.receipts import ReceiptDraft
from evidencesync.protocol.messages import KEPT_VERSION, VERSIONS
from evidencesync.vault.index.recipes import iter_long_recipes
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.cut_links import FlakyBench

SMALL, LARGE = b"a small file\n" * 40, bytes(range(256)) * 1024


@pytest.fixture(autouse=True)
def no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a test are younger than any margin: here a change time counts as old where it is not of the run itself."""
    monkeypatch.setattr(earlier, "RACY_SECONDS", 0)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = make_bench(tmp_path)
    (bench.source / "folder").mkdir()
    for name in ("a", "folder/b", "folder/c", "z"):
        (bench.source / name).write_bytes(SMALL + name.encode())
    (bench.source / "empty").write_bytes(b"")
    (bench.source / "folder" / "large").write_bytes(LARGE)
    return bench


@dataclass
class Receipts:
    """The receipts of this machine, and what its pushes said."""

    folder: Path
    notes: list[str] = field(default_factory=list)

    def run(self, bench: Bench, **changes: object) -> PushOutcome:
        """Pushes as the command does: with a receipt that is kept, and with another link where a run begins anew."""
        with KeptFolder(self.folder) as kept, contextlib.closing(ReceiptDraft(kept)) as draft:
            progress, recorder = Progress(notify=self.notes.append), SessionRecorder(draft=draft)
            outcome = push(
                bench.serve()[0], bench.request(**changes), progress, afresh=lambda: bench.serve()[0], recorder=recorder
            )
            draft.finish(outcome.name, outcome.acquisition, outcome.documents.by_name())
        return outcome

    def quick(self, bench: Bench, **changes: object) -> PushOutcome:
        return self.run(bench, quick=True, **changes)


@pytest.fixture
def here(tmp_path: Path) -> Receipts:
    return Receipts(tmp_path / "receipts")


def not_read(bench: Bench, number: int) -> dict[str, int]:
    """The files of an acquisition that were not read in it, and the acquisitions that have read them."""
    entries = bench.entries(number)
    return {path.decode(): entry.read_in for path, entry in entries.items() if entry.read_in is not None}


def without_marks(bench: Bench, number: int) -> list[bytes]:
    manifest = (bench.acquisition(number) / "manifest.jsonl").read_bytes()
    lines = [re.sub(rb',"read_in":[0-9]+}$', b"}", line) for line in manifest.splitlines()]
    return lines[1:-1]


ALL = {"a": 1, "empty": 1, "folder/b": 1, "folder/c": 1, "z": 1}


def test_what_looks_as_it_did_is_not_read_and_the_manifest_says_which_acquisition_has_read_it(
    bench: Bench, here: Receipts
) -> None:
    here.run(bench)
    (bench.source / "a").write_bytes(SMALL + b"new")
    outcome = here.quick(bench)
    assert outcome.why_all_read is None
    found = not_read(bench, 2)
    assert found == {**dict.fromkeys(ALL.keys() - {"a"}, 1), "folder/large": 1}
    size = sum((bench.source / name).stat().st_size for name in found)
    assert outcome.tally.manifest.earlier == Earlier(files=len(found), bytes=size, oldest=1)
    assert outcome.changes is not None
    assert (outcome.changes.changed, outcome.changes.metadata) == (1, 0)  # the marks are no change
    assert (bench.acquisition(2) / "data" / "a").read_bytes() == SMALL + b"new"
    here.quick(bench)
    assert not_read(bench, 3) == {**found, "a": 2}
    here.run(bench)
    assert not_read(bench, 4) == {}
    assert without_marks(bench, 3) == without_marks(bench, 4)
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
    assert verdict.verdict == "pass"
    said = {one.acquisition: one.message for one in verdict.findings if one.slug == "read-earlier"}
    assert set(said) == {2, 3}
    assert re.fullmatch(
        r"[0-9] of 6 files \(.*\) were not read again: .* as it was read in acquisition 1 \(.*\) or later", said[3]
    )


def test_list_show_and_its_files_say_what_was_not_read_again(bench: Bench, here: Receipts, tmp_path: Path) -> None:
    here.run(bench)
    (bench.source / "a").write_bytes(SMALL + b"new")
    here.quick(bench)
    listed = list_output(bench.vault, HeadMemory(tmp_path / "state"))[0]
    assert [one.earlier and one.earlier.files for one in listed.items[0].acquisitions] == [None, 5]
    assert [line.endswith("5 files not read again") for line in _list_lines(listed) if line.startswith("  000")] == [False, True]
    item = bench.vault.item(bench.name)
    shown = [line for line in _show_lines(show_output(item, 2)) if line.startswith("  read")]
    assert "5 of 6 files (" in shown[0]
    assert shown[0].endswith("were not read again: their content is as it was read in acquisition 1")
    assert "everything" in next(line for line in _show_lines(show_output(item, 1)) if line.startswith("  read"))
    files = list(files_lines(files_output(item, 2, None, None, 100)))
    assert sum(line.endswith(" [read in acquisition 1]") for line in files) == 5


def test_without_a_receipt_of_the_last_acquisition_everything_is_read_and_that_is_said(
    bench: Bench, here: Receipts, tmp_path: Path
) -> None:
    assert here.quick(bench).why_all_read == "there is no acquisition before this one"
    elsewhere = Receipts(tmp_path / "elsewhere")
    assert elsewhere.quick(bench).why_all_read == "this machine has no receipt with the manifest of acquisition 1"
    assert here.quick(bench).why_all_read == "this machine has no receipt with the manifest of acquisition 2"
    assert not_read(bench, 2) == not_read(bench, 3) == {}
    assert here.quick(bench).why_all_read is None
    assert not_read(bench, 4).keys() >= ALL.keys()


def test_a_receipt_of_another_vault_does_not_hide_the_right_one(bench: Bench, here: Receipts, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_bench(tmp_path / "other")
    here.run(other)  # its receipt takes the name that this item's would have
    here.run(bench)
    assert here.quick(bench).why_all_read is None


def test_a_vault_cannot_name_the_manifest_that_another_vault_has_received(bench: Bench, here: Receipts) -> None:
    sha256 = bytes.fromhex(here.run(bench).manifest_sha256)
    header = decode_header((bench.acquisition(1) / "manifest.jsonl").read_bytes().splitlines(keepends=True)[0])
    ready = SimpleNamespace(acquisition=2, previous_manifest_sha256=sha256)
    shown = cast("Handshake", SimpleNamespace(ready=ready, version=KEPT_VERSION))
    with KeptFolder(here.folder) as kept, contextlib.closing(ReceiptDraft(kept)) as draft:
        for vault_id, is_used in ((header.vault_id, True), ("0" * 32, False)):
            files = earlier_files(draft, bench.name, shown, msgspec.structs.replace(header, vault_id=vault_id))
            files.close()
            assert (files.why_not is None) is is_used


def test_another_source_is_read(bench: Bench, here: Receipts, tmp_path: Path) -> None:
    here.run(bench)
    moved = tmp_path / "moved"
    bench.source.rename(moved)
    why = here.quick(bench, source=os.fsencode(moved)).why_all_read
    assert why == "acquisition 1 came from another source"
    assert not_read(bench, 2) == {}


def test_a_run_during_which_the_clock_was_set_is_not_relied_on(
    bench: Bench, here: Receipts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evidencesync.acquire.push.set_seconds", lambda clock: -60)
    here.run(bench)
    assert here.quick(bench).why_all_read == "the clock of this machine was set during acquisition 1"


@pytest.mark.parametrize("known_to_vault", [True, False])
def test_a_small_file_that_the_vault_has_lost_makes_the_run_read_everything(
    known_to_vault: bool, bench: Bench, here: Receipts
) -> None:
    here.run(bench)
    if not known_to_vault:
        here.quick(bench)  # the lines of the next run are known to the vault as they are
    number = 1 if known_to_vault else 2
    for stored in (bench.acquisition(1) / "data" / "folder" / "b", bench.acquisition(number) / "data" / "folder" / "b"):
        stored.chmod(0o600)
        stored.write_bytes(bytes(len(stored.read_bytes())))
        stored.chmod(0o444)
    outcome = here.quick(bench)
    assert here.notes == ["the vault lacks something that was not read, or its copy is damaged: everything is read"]
    assert outcome.why_all_read == "the vault lacks something that was not read, or its copy is damaged"
    assert not_read(bench, outcome.acquisition) == {}
    assert (bench.acquisition(outcome.acquisition) / "data" / "folder" / "b").read_bytes() == SMALL + b"folder/b"


@pytest.mark.parametrize("times", [1, 2])
def test_an_unchanged_source_is_unchanged_whether_or_not_it_was_read_the_last_time(
    times: int, bench: Bench, here: Receipts
) -> None:
    here.run(bench)
    for _ in range(times - 1):
        here.quick(bench)
    with pytest.raises(UnchangedSource) as found:
        here.quick(bench, skip_unchanged=True)
    assert found.value.acquisition == times
    assert found.value.tally.manifest.earlier is not None
    assert len(bench.acquisitions()) == times


def test_a_full_run_after_a_quick_one_publishes_because_it_says_that_all_was_read(bench: Bench, here: Receipts) -> None:
    here.run(bench)
    here.quick(bench)
    assert here.run(bench, skip_unchanged=True).acquisition == 3


def test_hard_links_are_the_same_as_after_a_full_run(bench: Bench, here: Receipts) -> None:
    for name in ("link", "folder/link"):
        os.link(bench.source / "a", bench.source / name)
    here.run(bench)
    here.quick(bench)
    assert not_read(bench, 2).keys() >= {"a", "link", "folder/link"}
    here.run(bench)
    assert without_marks(bench, 2) == without_marks(bench, 3)
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"


# --- Large files ---------------------------------------------------------------------------------------------------------


def test_a_large_file_is_not_read_and_the_vault_links_what_it_has_read_of_its_own(bench: Bench, here: Receipts) -> None:
    here.run(bench)
    outcome = here.quick(bench)
    assert not_read(bench, 2)["folder/large"] == 1
    assert outcome.literal_bytes == 0
    stored = [(bench.acquisition(number) / "data" / "folder" / "large").stat().st_ino for number in (1, 2)]
    assert stored[0] == stored[1]
    assert outcome.stored.linked.bytes == outcome.tally.manifest.bytes
    assert audit_vault(bench.vault.layout.root, all_digests=True, now_ns=time.time_ns()).verdict == "pass"


def test_large_files_that_were_read_and_others_that_were_not_come_in_order(bench: Bench, here: Receipts) -> None:
    for number in range(8):
        (bench.source / f"large{number}").write_bytes(bytes([number]) * 300_000)
    here.run(bench)
    for number in (0, 3, 4, 7):
        (bench.source / f"large{number}").write_bytes(bytes([number + 1]) * 300_000)
    here.quick(bench)
    assert {f"large{number}" in not_read(bench, 2) for number in (1, 2, 5, 6)} == {True}
    here.run(bench)
    assert without_marks(bench, 2) == without_marks(bench, 3)
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"


@pytest.mark.parametrize("damage", ["other bytes", "shorter", "gone"])
def test_a_large_file_that_the_vault_has_lost_makes_the_run_read_everything(damage: str, bench: Bench, here: Receipts) -> None:
    here.run(bench)
    stored = bench.acquisition(1) / "data" / "folder" / "large"
    stored.parent.chmod(0o755)
    stored.unlink()
    if damage != "gone":
        stored.write_bytes(bytes(len(LARGE)) if damage == "other bytes" else LARGE[:-1])
    outcome = here.quick(bench)
    assert outcome.why_all_read == "the vault lacks something that was not read, or its copy is damaged"
    assert not_read(bench, 2) == {}
    assert (bench.acquisition(2) / "data" / "folder" / "large").read_bytes() == LARGE


def test_for_a_vault_of_an_earlier_version_everything_is_read(
    bench: Bench, here: Receipts, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.run(bench)
    monkeypatch.setattr("evidencesync.protocol.failures.VERSIONS", tuple(one for one in VERSIONS if one < KEPT_VERSION))
    assert here.quick(bench).why_all_read == "the vault's evidencesync is too old to take what was not read"
    assert not_read(bench, 2) == {}


def test_a_vault_without_links_copies_a_large_file_and_cuts_it_again(
    bench: Bench, here: Receipts, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.run(bench)
    monkeypatch.setattr("evidencesync.vault.tree.TreeWriter.link", lambda *_: False)
    outcome = here.quick(bench)
    assert outcome.why_all_read is None
    recipes = []
    for number in (1, 2):
        with (bench.acquisition(number) / "chunks.bin").open("rb") as file:
            recipes.append([(recipe.content, b"".join(recipe.blocks())) for _, recipe in iter_long_recipes(file)])
    assert recipes[0] == recipes[1]
    assert audit_vault(bench.vault.layout.root, all_digests=True, now_ns=time.time_ns()).verdict == "pass"


@pytest.mark.parametrize("cut_at", [800, 2000, 3000, 3500, 4000, 5000])
def test_a_quick_run_goes_on_after_lost_links(cut_at: int, bench: Bench, here: Receipts) -> None:
    for number in range(20):
        (bench.source / f"large{number:02}").write_bytes(bytes([number]) * 200_000)
    here.run(bench)
    (bench.source / "large07").write_bytes(b"x" * 200_000)
    flaky = FlakyBench(bench)
    with KeptFolder(here.folder) as kept, contextlib.closing(ReceiptDraft(kept)) as draft:
        cuts: list[dict[str, int] | None] = [{"sent": cut_at}, {"received": 2000}, None]
        flaky.recorder = SessionRecorder(draft=draft)
        outcome = flaky.push(cuts, quick=True)
    flaky.join()
    assert outcome.interruptions > 0
    assert not_read(bench, 2).keys() == {*ALL, "folder/large", *(f"large{number:02}" for number in range(20) if number != 7)}
    here.run(bench)
    assert without_marks(bench, 2) == without_marks(bench, 3)
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"


def test_what_a_killed_quick_run_has_left_is_used_by_the_next_one(bench: Bench, here: Receipts) -> None:
    for number in range(8):
        (bench.source / f"large{number}").write_bytes(bytes([number]) * 300_000)
    here.run(bench)
    (bench.source / "new").write_bytes(os.urandom(3_000_000))
    flaky = FlakyBench(bench, may_reconnect=False)
    with KeptFolder(here.folder) as kept, contextlib.closing(ReceiptDraft(kept)) as draft:
        flaky.recorder = SessionRecorder(draft=draft)
        with pytest.raises(LinkLostError):
            flaky.push([{"sent": 2_000_000}], quick=True, retries=0)
    flaky.join()
    outcome = here.quick(bench)
    assert outcome.leftovers == 1
    assert (bench.acquisition(2) / "data" / "new").read_bytes() == (bench.source / "new").read_bytes()
    assert not_read(bench, 2).keys() == {*ALL, "folder/large", *(f"large{number}" for number in range(8))}
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"
