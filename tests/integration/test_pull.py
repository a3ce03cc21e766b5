"""Pulls between a source's end and a vault's end, both real, in this process."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.connection.link import Link, LocalLink
from evidencesync.custody.receipt import decode_receipt
from evidencesync.errors import (
    LinkLostError,
    NothingLeftError,
    NotThereError,
    PathEscapeError,
    RolledBackError,
    SourceGapsError,
    UntrustedSignerError,
    UsageError,
)
from evidencesync.localstate.heads import HeadMemory
from evidencesync.localstate.receipts import FinishedReceipt, ReceiptDraft, receipts_folder
from evidencesync.source.filters import FilterRules
from evidencesync.verify.audit import audit_vault
from tests.support.bad_disk import BadFile, bad_disk, loop_device
from tests.support.bench_of_evidence import Bench, make_bench, new_signer
from tests.support.file_systems import mount, mounted
from tests.support.moments import LONG_AFTER_NS
from tests.support.pulling import far_end, link_to, pull_from

FindProgram = Callable[[str], str]


def fill(source: Path) -> None:
    (source / "folder").mkdir()
    (source / "folder" / "image").write_bytes(os.urandom(3_000_000))
    (source / "small").write_bytes(b"small")
    (source / "empty").write_bytes(b"")
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "fifo")
    with open(os.fsencode(source) + b"/odd\xff\x1b\nname", "wb") as file:
        file.write(b"odd")


def test_a_pull_stores_what_a_push_would(bench: Bench) -> None:
    fill(bench.source)
    pulled = pull_from(bench)
    pushed = bench.push()
    assert (pulled.acquisition, pushed.acquisition) == (1, 2)
    assert pulled.tally.manifest.counts == pushed.tally.manifest.counts
    first, second = bench.entries(1), bench.entries(2)
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] in ([], [b"link"])  # whose access time reading it changes
    assert pushed.literal_bytes == 0
    assert (pulled.literal_bytes, pulled.reused_bytes) == (3_000_008, 0)


def test_what_is_unchanged_does_not_travel_again(bench: Bench) -> None:
    fill(bench.source)
    for number in range(2000):
        (bench.source / f"{number}").write_bytes(b"%d" % number)
    pull_from(bench)
    again = pull_from(bench)
    assert (again.acquisition, again.literal_bytes, again.stored.linked.files) == (2, 0, 2004 - 1)
    assert again.wire_received < 10_000
    with (bench.source / "folder" / "image").open("r+b") as image:
        image.seek(1_500_000)
        image.write(b"changed")
    changed = pull_from(bench)
    assert changed.literal_bytes < 2000
    stored = bench.acquisition(3) / "data" / "folder" / "image"
    assert stored.read_bytes() == (bench.source / "folder" / "image").read_bytes()


def test_a_pull_looks_no_further_than_its_item(tmp_path: Path) -> None:
    """Whatever the policy: a source's end could else ask whether another case has some content."""
    bench = make_bench(tmp_path, "vault")
    fill(bench.source)
    bench.push()
    elsewhere = pull_from(bench, name=type(bench.name)(bench.name.case, type(bench.name.item)("another")))
    assert elsewhere.literal_bytes == 3_000_008
    assert decode_receipt(elsewhere.documents.receipt).lookup == "item"


def test_filters_hold_at_the_source(bench: Bench) -> None:
    fill(bench.source)
    outcome = pull_from(bench, rules=FilterRules.from_patterns(["*", "!fold\xe9r/"], ["small"]))
    assert outcome.tally.manifest.contents == 1
    assert set(outcome.tally.manifest.flags) == {"skipped"}
    with pytest.raises(UsageError):
        pull_from(bench, rules=FilterRules(("[[:digit:]]",)))


def test_an_included_folder_is_pulled_with_all_that_is_in_it(bench: Bench) -> None:
    fill(bench.source)
    outcome = pull_from(bench, rules=FilterRules.from_patterns(["*"], ["folder/"]))
    assert {path for path, entry in bench.entries(1).items() if not entry.flags} == {b"", b"folder", b"folder/image"}
    assert outcome.tally.manifest.bytes == 3_000_000


def test_filters_that_leave_nothing_end_a_pull_before_anything_is_signed(bench: Bench) -> None:
    fill(bench.source)
    rules = FilterRules.from_patterns(["*"])
    with pytest.raises(NothingLeftError):
        pull_from(bench, rules=rules, allow_empty=False)
    assert bench.acquisitions() == []
    outcome = pull_from(bench, rules=rules, allow_empty=True)
    assert (outcome.acquisition, outcome.tally.manifest.taken) == (1, 0)
    shutil.rmtree(bench.source)
    bench.source.mkdir()
    with pytest.raises(NothingLeftError, match="the source is empty"):
        pull_from(bench, rules=rules, allow_empty=False)
    assert pull_from(bench, rules=rules, allow_empty=True).tally.manifest.counts == {"directory": 1}
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"


def test_a_pull_that_stays_on_one_file_system_takes_all_of_an_overlay(
    bench: Bench, tmp_path: Path, require_program: FindProgram
) -> None:
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower/old").write_bytes(b"old")
    with mounted("tmpfs", tmp_path, 1 << 20, require_program) as upper:
        for name in ("upper", "work"):
            (upper / name).mkdir()
        layers = f"lowerdir={tmp_path / 'lower'},upperdir={upper / 'upper'},workdir={upper / 'work'}"
        with mount("-t", "overlay", "-o", layers, "overlay", bench.source):
            (bench.source / "new").write_bytes(b"new")
            pull_from(bench, rules=FilterRules.from_patterns(one_file_system=True))
            assert {path: entry.flags for path, entry in bench.entries(1).items()} == {b"": None, b"new": None, b"old": None}


def test_a_part_of_what_is_offered_may_be_pulled(bench: Bench) -> None:
    fill(bench.source)
    outcome = pull_from(bench, source=os.fsencode(bench.source / "folder"))
    assert outcome.tally.manifest.contents == 1
    assert set(bench.entries(1)) == {b"", b"image"}


def test_what_is_not_offered_is_not_read(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (bench.source / "out").symlink_to(tmp_path)
    for asked, error in ((b"/etc", NotThereError), (b"%b/out/secret", NotThereError), (b"%b/../secret", PathEscapeError)):
        with pytest.raises(error):
            pull_from(bench, source=asked.replace(b"%b", os.fsencode(bench.source)))
    assert bench.acquisitions() == []


def test_whoever_may_not_sign_learns_nothing_of_the_source(bench: Bench) -> None:
    fill(bench.source)
    with pytest.raises(UntrustedSignerError):
        pull_from(bench, signer=new_signer())


class _CutAfter:
    """A link that is lost after so many bytes have come."""

    peer = None

    def __init__(self, link: LocalLink, size: int) -> None:
        self._link = link
        self._left = size
        self.wire_sent = 0

    @property
    def wire_received(self) -> int:
        return self._link.wire_received

    def read(self) -> bytes:
        block = self._link.read()
        self._left -= len(block)
        if self._left < 0:
            self._link.close()
            raise LinkLostError("cut")
        return block

    def write(self, data: bytes) -> None:
        self._link.write(data)

    def close(self) -> None:
        self._link.close()


def test_a_lost_link_is_made_anew_and_what_had_arrived_does_not_come_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.acquire.connect.FIRST_PAUSE", 0.01)
    (bench.source / "image").write_bytes(os.urandom(40_000_000))
    links = [20_000_000, 10_000_000, 10**9]

    def again() -> Link:
        return _CutAfter(link_to(far_end(bench.source)), links.pop(0))

    with pytest.raises(LinkLostError):
        pull_from(bench, link=again())
    assert bench.acquisitions() == []
    outcome = pull_from(bench, link=again(), again=again, retries=3)
    assert (outcome.acquisition, outcome.interruptions) == (1, 1)
    assert outcome.reused_bytes > 20_000_000
    assert (bench.acquisition(1) / "data" / "image").read_bytes() == (bench.source / "image").read_bytes()


def test_a_size_and_a_file_system_bound_a_pull_as_they_bound_a_push(bench: Bench) -> None:
    fill(bench.source)
    rules = FilterRules.from_patterns(max_size=4, one_file_system=True)
    pulled, pushed = pull_from(bench, rules=rules), bench.push(rules=rules)
    assert pulled.tally.manifest.flags == pushed.tally.manifest.flags == {"skipped": 2}
    assert pulled.tally.manifest.remarks.keys() <= {"access-time-changed"}


def test_a_pull_keeps_its_manifest_and_remembers_the_vault(bench: Bench, tmp_path: Path) -> None:
    """As a push does: a vault that was put back is refused by whoever has pulled into it later."""
    fill(bench.source)
    vault, backup = bench.vault.layout.root, tmp_path / "backup"
    memory, receipts = HeadMemory(tmp_path / "state"), receipts_folder(tmp_path / "receipts")

    def pull_and_keep() -> FinishedReceipt:
        draft = ReceiptDraft(receipts)
        try:
            outcome = pull_from(bench, recorder=SessionRecorder(memory, draft))
            memory.remember(outcome.seen)
            return draft.finish(outcome.name, outcome.acquisition, outcome.documents.by_name())
        finally:
            draft.close()

    pull_and_keep()
    shutil.copytree(vault, backup, symlinks=True)
    kept = pull_and_keep()
    assert kept.lacks is None
    assert (kept.folder / "manifest.jsonl").read_bytes() == (bench.acquisition(2) / "manifest.jsonl").read_bytes()
    shutil.rmtree(vault)
    backup.rename(vault)
    with pytest.raises(RolledBackError):
        pull_and_keep()
    assert bench.acquisitions() == ["0001"]
    assert len(os.listdir(receipts.fd)) == 2
    receipts.close()


def test_what_cannot_be_read_there_is_counted_here(bench: Bench, tmp_path: Path) -> None:
    bad = [(4096, 4608), (1_000_000, 1_000_100)]
    with bad_disk(
        tmp_path / "bad", {"disk": BadFile(bytearray(os.urandom(2_000_000)), bad), "whole": BadFile(bytearray(9))}
    ) as disk:
        bench.source = disk.place
        pulled, pushed = pull_from(bench), bench.push()
    (first, second) = (bench.entries(number)[b"disk"] for number in (1, 2))
    assert (first.flags, first.read_errors, first.sha256) == (second.flags, second.read_errors, second.sha256)
    tallies = [(one.tally.partial, one.tally.bad_ranges, one.tally.bad_bytes) for one in (pulled, pushed)]
    assert tallies[0] == tallies[1] != (0, 0, 0)
    assert (pulled.tally.partial, pulled.tally.flagged) == (1, [(b"disk", "unreadable")])
    acquired = json.loads((bench.acquisition(1) / "acquired.json").read_bytes())
    assert acquired["details"]["bytes_not_readable"] == str(pushed.tally.bad_bytes)
    assert header_of(bench, 1)["method"]["options"]["on-read-error"] == "zero"
    assert audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS, all_digests=True).verdict == "pass"


def test_nothing_is_published_where_something_cannot_be_read_and_that_was_to_be_so(bench: Bench, tmp_path: Path) -> None:
    with bad_disk(tmp_path / "bad", {"disk": BadFile(bytearray(2_000_000), [(4096, 4608)])}) as disk:
        bench.source = disk.place
        with pytest.raises(SourceGapsError):
            pull_from(bench, on_read_error="fail")
    assert bench.acquisitions() == []


@pytest.mark.parametrize(("retries", "again"), [(0, 0), (1, 1), (None, 1)])
def test_a_file_that_changed_is_read_again_there_as_often_as_was_asked(
    bench: Bench, tmp_path: Path, retries: int | None, again: int
) -> None:
    def before_read(file: BadFile, offset: int, _: int) -> None:
        if not offset and file.ctime_ns == first:
            file.touch()

    log = BadFile(bytearray(os.urandom(300_000)), before_read=before_read)
    first = log.ctime_ns
    with bad_disk(tmp_path / "bad", {"log": log}) as disk:
        bench.source = disk.place
        outcome = pull_from(bench, retries_changed=retries)
    assert outcome.tally.read_again == again
    assert outcome.tally.manifest.flags == ({} if again else {"changed-while-read": 1})


def test_a_device_is_pulled_as_it_is_pushed(bench: Bench, tmp_path: Path, require_program: FindProgram) -> None:
    image = tmp_path / "backing"
    image.write_bytes(os.urandom(1_000_000 - 1_000_000 % 512) + bytes(512))
    with loop_device(image, require_program) as device:
        source = os.fsencode(device)
        outcome = pull_from(bench, far_end(device), source=source)
        pushed = bench.push(source=source)
        with pytest.raises(UsageError, match="skip is gone"):  # which a vault's end of an earlier version may ask for
            pull_from(bench, far_end(device), source=source, on_read_error="skip")
        with pytest.raises(NotThereError):  # below a folder that is offered, none is opened
            pull_from(bench, far_end(device.parent), source=source)
    assert (bench.acquisition(1) / "data" / f"{device.name}.img").read_bytes() == image.read_bytes()
    assert bench.entries(1) == bench.entries(2)
    assert header_of(bench, 1)["source"]["device"] == header_of(bench, 2)["source"]["device"]
    assert (outcome.literal_bytes > 900_000, pushed.literal_bytes) == (True, 0)
    assert audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS, all_digests=True).verdict == "pass"


def test_how_far_the_other_machines_clock_is_off_is_known(bench: Bench) -> None:
    ahead = pull_from(bench, far_end(bench.source, lambda: time.time_ns() + 3_600_000_000_000))
    assert ahead.source_clock_offset_ns is not None
    assert abs(ahead.source_clock_offset_ns - 3_600_000_000_000) < 60_000_000_000
    assert abs(float(header_of(bench, 1)["clock"]["peer_offset_seconds"]) - 3600) < 60


def header_of(bench: Bench, number: int) -> dict[str, Any]:
    header: dict[str, Any] = json.loads((bench.acquisition(number) / "manifest.jsonl").read_text().split("\n", 1)[0])
    return header
