"""What `restore` prints of a copy for people: each kind of lack is counted, and the first ones are named."""

from __future__ import annotations

import os

import msgspec
import pytest

from evidencesync.acquire.far_contents import FarCounts
from evidencesync.cli.file_outputs import LackOutput, RestoreOutput
from evidencesync.cli.restore_command import _RestoreView, restore_lines
from evidencesync.restore.refusals import Lack
from evidencesync.restore.restore import RestoreProgress


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def output_of(lack: Lack, count: int) -> RestoreOutput:
    lacking = [LackOutput(lack, f"file {number}", None, "Operation not permitted") for number in range(min(count, 200))]
    return RestoreOutput(
        case="1",
        item="A",
        acquisition=1,
        destination="/out",
        scope="all",
        manifest_sha256="0" * 64,
        trust="vault",
        verdict="complete",
        entries={"file": count},
        files=count,
        bytes=0,
        shared_bytes=0,
        read_back=True,
        record=None,
        record_problem=None,
        lacks={lack: count},
        lacking=lacking,
        received_bytes=None,
        basis_bytes=None,
    )


def lines(lack: Lack, count: int) -> list[str]:
    return list(restore_lines(output_of(lack, count)))


def test_owners_that_an_ordinary_user_cannot_set_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert lines("owner", 71)[0] == "owners and groups were not restored: this needs root (71 entries)"
    assert lines("owner", 71)[1].startswith("1 / A, acquisition 1")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert lines("owner", 71)[0] == "owner or group not set: 71"


@pytest.mark.parametrize(("lack", "named"), [("owner", 3), ("mode", 3), ("damaged", 10), ("unreadable", 10)])
def test_of_what_is_no_failure_three_are_named_and_of_failures_ten(lack: Lack, named: int) -> None:
    shown = lines(lack, 1234)
    assert shown[0].endswith(": 1,234")
    assert shown[1 : 2 + named] == [
        *(f"    file {number}  (Operation not permitted)" for number in range(named)),
        f"    ... and {1234 - named:,} more",
    ]


def test_few_are_all_named() -> None:
    shown = lines("owner", 2)
    assert shown[:4] == [
        "owner or group not set: 2",
        "    file 0  (Operation not permitted)",
        "    file 1  (Operation not permitted)",
        "1 / A, acquisition 1, restored to /out",
    ]


def test_the_time_left_is_that_of_what_is_to_be_written_and_not_of_holes() -> None:
    progress = RestoreProgress(stage="writing", total_files=1, total_bytes=20_000_000_000, total_data_bytes=100_000_000)
    view = _RestoreView(progress, reads_back=True)
    said = []
    for second in range(9):
        progress.bytes = second * 10_000_000
        said.append(view.headline(float(second)))
    assert said[5] == "step 1 of 2: writing  0 of 1 file  50.0 MB of 20.0 GB  10.0 MB/s  5 s left"
    progress.bytes += 5_000_000_000
    progress.hole_bytes += 5_000_000_000
    assert view.headline(9.0).endswith("  1 s left")


def test_from_afar_the_rate_is_that_of_what_is_sent() -> None:
    """Of 1000 MB a basis has 900, which are there at once: the rest takes as long as it takes to send it."""
    progress, counts = RestoreProgress(stage="writing", total_files=1, total_bytes=1_000_000_000), FarCounts()
    view = _RestoreView(progress, reads_back=False, counts=counts)
    shown = ""
    for second in range(11):
        counts.received, counts.basis = 5_000_000 * second, 900_000_000
        progress.bytes = counts.received + counts.basis
        shown = view.headline(float(second))
    assert "950.0 MB of 1.0 GB" in shown
    assert "5.0 MB/s" in shown
    assert "10 s left" in shown


def test_what_was_sent_and_what_the_basis_had_is_said() -> None:
    far = msgspec.structs.replace(output_of("owner", 1), received_bytes=1000, basis_bytes=5000)
    assert any("1.0 kB of it sent by the vault, 5.0 kB from the basis" in line for line in restore_lines(far))
    assert not any("sent by the vault" in line for line in lines("owner", 1))
