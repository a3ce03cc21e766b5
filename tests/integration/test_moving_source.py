"""Files that change while they are read: seen, read again where that is cheap or asked for, and else recorded as such.

The file system calls back in the middle of a read, so every race here is won every time.
"""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from evidencesync.acquire.reading import CHEAP_TO_READ_AGAIN
from evidencesync.limits import KIB, MIB
from evidencesync.verify.audit import audit_vault
from tests.support.bad_disk import BadFile, bad_disk
from tests.support.bench_of_evidence import Bench
from tests.support.moments import LONG_AFTER_NS

Move = Callable[[BadFile], None]
SIZES = [20_000, 3 * MIB]


def content(size: int) -> bytearray:
    return bytearray(random.Random(size).randbytes(size))


def grows(file: BadFile) -> None:
    file.data += b"one more line\n"
    file.touch()


def shrinks(file: BadFile) -> None:
    del file.data[len(file.data) // 2 :]
    file.touch()


def is_edited_and_its_mtime_put_back(file: BadFile) -> None:
    file.data[-4:] = bytes(byte ^ 0xFF for byte in file.data[-4:])
    file.touch(mtime=False)


MOVES: list[Move] = [grows, shrinks, is_edited_and_its_mtime_put_back]


def moving(size: int, move: Move, times: int) -> BadFile:
    """A file that moves when its first byte is read, the first so many times."""
    left = times

    def before_read(file: BadFile, offset: int, _: int) -> None:
        nonlocal left
        if offset == 0 and left:
            left -= 1
            move(file)

    return BadFile(content(size), before_read=before_read)


def assert_sound(bench: Bench) -> None:
    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS, all_digests=True)
    assert verdict.verdict == "pass"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("move", MOVES)
def test_what_moves_once_is_read_again_and_is_whole(bench: Bench, tmp_path: Path, size: int, move: Move) -> None:
    file = moving(size, move, 1)
    with bad_disk(tmp_path / "live", {"a": BadFile(content(MIB)), "log": file, "z": BadFile(content(500))}) as folder:
        outcome = bench.push(source=os.fsencode(folder.place))
    assert outcome.tally.manifest.flags == {}
    assert outcome.tally.read_again == 1
    entry = bench.entries(1)[b"log"]
    assert (bench.acquisition(1) / "data" / "log").read_bytes() == file.data
    assert (entry.size, entry.mtime) == (len(file.data), f"{file.mtime_ns // 10**9}.{file.mtime_ns % 10**9:09d}")
    assert (bench.acquisition(1) / "data" / "z").read_bytes() == content(500)
    assert_sound(bench)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("move", MOVES)
def test_what_moves_all_the_time_is_flagged(bench: Bench, tmp_path: Path, size: int, move: Move) -> None:
    file = moving(size, move, 3)
    with bad_disk(tmp_path / "live", {"log": file}) as folder:
        outcome = bench.push(source=os.fsencode(folder.place))
    assert outcome.tally.flagged == [(b"log", "changed-while-read")]
    assert outcome.tally.read_again == 2
    assert bench.entries(1)[b"log"].flags == ["changed-while-read"]
    assert_sound(bench)


@pytest.mark.parametrize("size", SIZES)
def test_no_file_is_read_again_where_nobody_wants_it(bench: Bench, tmp_path: Path, size: int) -> None:
    with bad_disk(tmp_path / "live", {"log": moving(size, grows, 1)}) as folder:
        outcome = bench.push(source=os.fsencode(folder.place), retries_changed=0)
    assert outcome.tally.flagged == [(b"log", "changed-while-read")]
    assert outcome.tally.read_again == 0


def test_a_large_file_is_read_again_only_where_that_was_asked_for(bench: Bench, tmp_path: Path) -> None:
    for wanted, again in ((None, 0), (1, 1)):
        with bad_disk(tmp_path / f"live-{again}", {"log": moving(CHEAP_TO_READ_AGAIN + MIB, grows, 1)}) as folder:
            outcome = bench.push(source=os.fsencode(folder.place), retries_changed=wanted)
        assert outcome.tally.read_again == again
        assert outcome.tally.manifest.flags == ({} if again else {"changed-while-read": 1})
    assert_sound(bench)


@pytest.mark.parametrize("size", SIZES)
def test_what_only_grows_holds_the_bytes_up_to_its_size_when_it_was_opened(bench: Bench, tmp_path: Path, size: int) -> None:
    begun = content(size)
    with bad_disk(tmp_path / "live", {"log": moving(size, grows, 9)}) as folder:
        bench.push(source=os.fsencode(folder.place), retries_changed=0)
    entry = bench.entries(1)[b"log"]
    stored = (bench.acquisition(1) / "data" / "log").read_bytes()
    assert entry.flags == ["changed-while-read"]
    assert stored[:size] == begun
    if size > 128 * KIB:
        assert len(stored) == size


def test_what_is_appended_while_the_end_is_looked_for_is_not_sent_as_more_than_was_announced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that is written to all the time: nobody is hostile for that, and the push goes on."""
    log, begun = bench.source / "log", bytes(content(3 * MIB))
    log.write_bytes(begun)
    preadv = os.preadv

    def appends_first(fd: int, buffers: list[bytearray], offset: int) -> int:
        if offset >= len(begun) and offset == os.fstat(fd).st_size:
            with log.open("ab") as stream:
                stream.write(b"one more line\n")
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", appends_first)
    bench.push(retries_changed=0)
    assert bench.entries(1)[b"log"].flags == ["changed-while-read"]
    assert (bench.acquisition(1) / "data" / "log").read_bytes() == begun


@pytest.mark.parametrize("size", SIZES)
def test_what_vanishes_while_it_is_read_keeps_what_was_read(bench: Bench, tmp_path: Path, size: int) -> None:
    def vanishes(file: BadFile) -> None:
        file.gone = True
        file.touch()

    file = moving(size, vanishes, 1)
    with bad_disk(tmp_path / "live", {"log": file}) as folder:
        outcome = bench.push(source=os.fsencode(folder.place))
    assert outcome.tally.flagged == [(b"log", "changed-while-read")]
    assert (bench.acquisition(1) / "data" / "log").read_bytes() == file.data
    assert_sound(bench)


@pytest.mark.parametrize("size", SIZES)
def test_what_cannot_be_read_a_second_time_stays_as_it_was_read_first(bench: Bench, tmp_path: Path, size: int) -> None:
    def changes_and_fails(file: BadFile) -> None:
        is_edited_and_its_mtime_put_back(file)
        first = bytes(file.data)

        def fails(again: BadFile, offset: int, length: int) -> None:
            if offset == 0 and length:
                again.bad, again.error = [(0, len(first))], errno.EACCES

        file.before_read = fails

    file = moving(size, changes_and_fails, 1)
    with bad_disk(tmp_path / "live", {"log": file}) as folder:
        outcome = bench.push(source=os.fsencode(folder.place))
    assert outcome.tally.flagged == [(b"log", "changed-while-read")]
    assert (bench.acquisition(1) / "data" / "log").read_bytes() == file.data
    assert_sound(bench)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_another_one_replaces_is_read_as_the_other_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    log, new = bench.source / "log", content(size + 1)
    log.write_bytes(content(size))
    (bench.source.parent / "new").write_bytes(new)
    _after_each_beginning(monkeypatch, log, [lambda: os.replace(bench.source.parent / "new", log)])
    bench.push()
    entry = bench.entries(1)[b"log"]
    assert entry.flags is None
    assert entry.inode == str(log.stat().st_ino)
    assert (bench.acquisition(1) / "data" / "log").read_bytes() == new
    assert_sound(bench)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_is_renamed_while_it_is_read_is_kept_and_flagged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    log = bench.source / "log"
    log.write_bytes(content(size))
    _after_each_beginning(monkeypatch, log, [lambda: log.rename(bench.source / "log.1")])
    outcome = bench.push()
    assert (b"log", "changed-while-read") in outcome.tally.flagged
    assert (b"", "changed-while-read") in outcome.tally.flagged  # the folder, in which a name came that was not listed
    assert outcome.tally.changed_folders == 1
    assert (bench.acquisition(1) / "data" / "log").read_bytes() == content(size)


@pytest.mark.parametrize("size", SIZES)
def test_another_process_that_edits_in_place_and_puts_the_time_back_is_noticed_each_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    log = bench.source / "log"
    log.write_bytes(content(size))
    with subprocess.Popen([sys.executable, "-c", WRITER, log], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        to_writer, from_writer = writer.stdin, writer.stdout

        def write_once() -> None:
            to_writer.write(b"x")
            to_writer.flush()
            assert from_writer.read(1) == b"y"

        _after_each_beginning(monkeypatch, log, [write_once] * 3)
        outcome = bench.push()
        to_writer.close()
    assert outcome.tally.flagged == [(b"log", "changed-while-read")]
    assert outcome.tally.read_again == 2
    assert_sound(bench)


def test_what_moves_into_a_folder_that_was_already_read_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "z"):
        (bench.source / name).mkdir()
    (bench.source / "z" / "first").write_bytes(content(SIZES[1]))
    (bench.source / "z" / "later").write_bytes(b"later")
    move = partial(os.rename, bench.source / "z" / "later", bench.source / "a" / "later")
    _after_each_beginning(monkeypatch, bench.source / "z" / "first", [move])
    outcome = bench.push()
    assert sorted(outcome.tally.flagged) == [(b"a", "changed-while-read"), (b"z", "changed-while-read"), (b"z/later", "vanished")]
    assert outcome.tally.changed_folders == 2
    acquired = json.loads((bench.acquisition(1) / "acquired.json").read_text())
    assert acquired["details"]["folders_changed_while_read"] == "2"


def test_a_folder_that_went_away_after_it_was_read_is_noticed_and_one_that_stayed_is_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (bench.source / name).mkdir()
    (bench.source / "z").write_bytes(content(SIZES[1]))
    _after_each_beginning(monkeypatch, bench.source / "z", [(bench.source / "a").rmdir])
    outcome = bench.push()
    assert sorted(outcome.tally.flagged) == [(b"", "changed-while-read"), (b"a", "changed-while-read")]


WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
while sys.stdin.buffer.read(1):
    status = os.fstat(fd)
    os.pwrite(fd, bytes([os.pread(fd, 1, 0)[0] ^ 0xFF]), 0)
    os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
    sys.stdout.buffer.write(b"y")
    sys.stdout.flush()
"""


def _after_each_beginning(monkeypatch: pytest.MonkeyPatch, path: Path, moves: list[Callable[[], object]]) -> None:
    """Makes the next of the moves whenever the first bytes of this file have been read."""
    preadv, read = os.preadv, os.read
    wanted = os.fsencode(path)

    def move(fd: int) -> None:
        if moves and os.readlink(b"/proc/self/fd/%d" % fd) == wanted:
            moves.pop(0)()

    def then_move_preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        got = preadv(fd, buffers, offset)
        if offset == 0:
            move(fd)
        return got

    def then_move_read(fd: int, size: int) -> bytes:
        data = read(fd, size)
        move(fd)
        return data

    monkeypatch.setattr(os, "preadv", then_move_preadv)
    monkeypatch.setattr(os, "read", then_move_read)
