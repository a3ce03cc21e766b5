"""What a push says, and returns, when the source could not be read, or moved, or is no source at all."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.limits import MIB
from tests.integration.cli_program import Lab, schema_errors
from tests.support.bad_disk import BadFile, bad_disk, loop_device

FindProgram = Callable[[str], str]
NAMED = ("--case", "2024-017", "--item", "DISK-1", "-i", "ana")
EVIL = "bad\x1b[31mname"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab.make(tmp_path)


def content(size: int) -> bytearray:
    return bytearray(random.Random(size).randbytes(size))


def moves(file: BadFile, offset: int, _: int) -> None:
    if offset == 0:
        file.touch()


def test_gaps_and_changes_are_counted_and_named_and_end_with_3(lab: Lab, tmp_path: Path) -> None:
    files = {
        EVIL: BadFile(content(3 * MIB), [(9000, 9001), (2 * MIB, 2 * MIB + 1)]),
        "log": BadFile(content(500), before_read=moves),
    }
    with bad_disk(tmp_path / "bad", files) as disk:
        done = lab.run("push", str(disk.place), "vault", *NAMED)
        as_document = lab.run("push", str(disk.place), "vault", *NAMED, "--json")
    assert done.code == 3
    assert "published, WITH GAPS" in done.out
    for line in (
        "  1 entry changed while it was read",
        "  1 entry could not be read, or not all of it",
        "  8.2 kB in 2 ranges of 1 file could not be read: the digests are of what stands there instead",
        "  files that had changed were read again 2 times",
        r"    unreadable: bad\x1b[31mname",
        "    changed-while-read: log",
    ):
        assert line in done.out
    assert "\x1b" not in done.out
    found = as_document.document
    assert schema_errors(found, "push-output") == []
    assert (as_document.code, found["verdict"]) == (3, "gaps")
    assert (found["bad_bytes"], found["bad_ranges"], found["partial"], found["read_again"]) == (8192, 2, 1, 2)
    assert found["flags"] == {"changed-while-read": 1, "unreadable": 1}
    assert {entry["flag"] for entry in found["flagged"]} == {"changed-while-read", "unreadable"}


def test_what_only_changed_ends_with_4(lab: Lab, tmp_path: Path) -> None:
    with bad_disk(tmp_path / "bad", {"log": BadFile(content(500), before_read=moves)}) as disk:
        done = lab.run("push", str(disk.place), "vault", *NAMED, "--retries-changed", "5", "--json")
    assert (done.code, done.document["verdict"], done.document["read_again"]) == (4, "source-changed", 5)


def test_with_fail_nothing_is_published_and_the_error_says_what_else_there_is(lab: Lab, tmp_path: Path) -> None:
    with bad_disk(tmp_path / "bad", {EVIL: BadFile(content(MIB), [(9000, 9001)])}) as disk:
        done = lab.run("push", str(disk.place), "vault", *NAMED, "--on-read-error", "fail", "--json")
    assert (done.code, done.error["slug"]) == (1, "source-gaps")
    assert r"bad\x1b[31mname" in done.error["message"]
    assert "--on-read-error zero" in done.error["hint"]
    assert lab.run("list", "vault").out.endswith("  nothing yet\n")


def test_an_image_of_a_failing_disk(lab: Lab, tmp_path: Path, require_program: FindProgram) -> None:
    disk = BadFile(content(5 * MIB), [(9000, 9001)])
    with bad_disk(tmp_path / "bad", {"disk": disk}) as folder:
        with loop_device(folder.place / "disk", require_program) as device:
            done = lab.run("push", str(device), "vault", *NAMED)
        with loop_device(folder.place / "disk", require_program, read_only=True) as device:
            verified = lab.run("verify", "vault", "--all-digests")
    assert (done.code, done.err) == (3, "")
    assert "512 B in 1 range of 1 file could not be read" in done.out
    assert f"unreadable: {device.name}.img" in done.out
    assert verified.code == 0
    assert "1 entry of the source: could not be read, or not whole" in verified.out


def test_a_device_that_could_be_written_to_is_a_warning(lab: Lab, tmp_path: Path, require_program: FindProgram) -> None:
    (tmp_path / "backing").write_bytes(content(MIB))
    with loop_device(tmp_path / "backing", require_program, read_only=False) as device:
        done = lab.run("push", str(device), "vault", *NAMED, "--json")
    assert (done.code, done.document["verdict"], done.document["bytes"]) == (0, "complete", MIB)
    assert "not write-protected" in done.err


@pytest.mark.parametrize("source", ["/dev/null", "fifo"])
def test_what_is_no_source_ends_with_2_and_a_hint(lab: Lab, source: str) -> None:
    os.mkfifo(lab.folder / "fifo")
    done = lab.run("push", source, "vault", *NAMED)
    assert done.code == 2
    assert "hint: " in done.err


def test_another_word_for_read_errors_ends_with_2(lab: Lab) -> None:
    lab.write("a", b"a")
    assert lab.push("--on-read-error", "ignore").code == 2
    gone = lab.push("--on-read-error", "skip")
    assert (gone.code, "skip is gone" in gone.err, "Use zero" in gone.err) == (2, True, True)


def test_a_dry_run_of_a_device_says_how_large_it_is(lab: Lab, tmp_path: Path, require_program: FindProgram) -> None:
    (tmp_path / "backing").write_bytes(content(3 * MIB))
    with loop_device(tmp_path / "backing", require_program) as device:
        done = lab.run("push", str(device), "vault", *NAMED, "--dry-run", "--offline", "--json")
    assert (done.code, done.document["verdict"], done.document["flagged"]) == (0, "complete", [])
    assert (done.document["files"], done.document["bytes"]) == (1, 3 * MIB)
    assert done.document["entries"] == {"block-device": 1}
