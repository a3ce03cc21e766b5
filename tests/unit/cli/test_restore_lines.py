"""What `restore` prints of a copy for people: each kind of lack is counted, and the first ones are named."""

from __future__ import annotations

import os

import msgspec
import pytest

from evidencesync.cli.file_outputs import LackOutput, RestoreOutput
from evidencesync.cli.restore_command import restore_lines
from evidencesync.restore.refusals import Lack


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
        wire_received=None,
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


def test_what_travelled_and_what_the_basis_had_is_said() -> None:
    """Of what travelled, and not of what became of it here: that is more, for it was compressed."""
    far = msgspec.structs.replace(output_of("owner", 1), received_bytes=1000, basis_bytes=5000, wire_received=300)
    assert any("5.0 kB of it from the basis; travelled 300 B, compressed" in line for line in restore_lines(far))
    far = msgspec.structs.replace(far, basis_bytes=0, wire_received=1200)
    assert any(line.endswith("0 B; travelled 1.2 kB") for line in restore_lines(far))
    assert not any("travelled" in line for line in lines("owner", 1))
