"""A server that is read without an agent may be a suspect's: its lies are refused, or recorded as what they are."""

from __future__ import annotations

import asyncio
import os
import random
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import asyncssh
import pytest

from evidencesync.errors import (
    EvidenceSyncError,
    HostKeyError,
    LimitExceededError,
    LinkLostError,
    PathEscapeError,
    ProtocolError,
    SourceGapsError,
    SourceNotFoundError,
    UsageError,
)
from evidencesync.limits import SMALL_FILE
from tests.support.at_once import try_all
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.sftp_server import pull_over_sftp, sftp_server

REGULAR = stat.S_IFREG | 0o644
FOLDER = stat.S_IFDIR | 0o755


def attributes(mode: int | None = REGULAR, size: int | None = 0, **more: int) -> asyncssh.SFTPAttrs:
    return asyncssh.SFTPAttrs(permissions=mode, size=size, uid=0, gid=0, atime=1, mtime=1, **more)


class Server(asyncssh.SFTPServer):
    """A folder `/evidence` with one file `file`, all of it invented. A test overrides what it lies about."""

    names: tuple[bytes, ...] = (b".", b"..", b"file")
    content = b"content"
    opened: list[bytes]

    def realpath(self, path: bytes) -> bytes:
        return path

    def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        return attributes(FOLDER) if path == b"/evidence" else attributes(REGULAR, len(self.content))

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        for name in self.names:
            yield asyncssh.SFTPName(name, attrs=self.lstat(path + b"/" + name))

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        assert pflags == asyncssh.FXF_READ
        return path

    def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
        return self.lstat(bytes(file_obj))  # type: ignore[call-overload]

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        return self.content[offset : offset + size]

    def close(self, file_obj: object) -> None:
        return None


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.acquire.connect.FIRST_PAUSE", 0.01)


def entries_from(bench: Bench, tmp_path: Path, server: type[Server], **changes: object) -> dict[bytes, tuple[str, object]]:
    with sftp_server(tmp_path, server) as running:
        running.pull(bench, b"/evidence", **changes)  # type: ignore[arg-type]
    return {path: (entry.type, entry.flags) for path, entry in bench.entries(1).items()}


def test_an_honest_one_of_this_kind_is_published(bench: Bench, tmp_path: Path) -> None:
    """Or the tests below would show nothing."""
    assert entries_from(bench, tmp_path, Server) == {b"": ("directory", None), b"file": ("file", None)}
    assert (bench.acquisition(1) / "data" / "file").read_bytes() == b"content"


@pytest.mark.parametrize("name", [b"../file", b"a/b", b"/etc", b"a\0b", b""])
def test_a_name_that_no_folder_can_hold_ends_it(bench: Bench, tmp_path: Path, name: bytes) -> None:
    class Lying(Server):
        names = (b"file", name)

    with sftp_server(tmp_path, Lying) as running, pytest.raises(PathEscapeError) as raised:
        running.pull(bench, b"/evidence")
    assert "\0" not in raised.value.message
    assert bench.acquisitions() == []


def test_odd_names_are_kept_and_double_ones_are_one(bench: Bench, tmp_path: Path) -> None:
    class Odd(Server):
        names = (b"\x1b[2J", b"file", b"\xff", b"file", b"new\nline", b"x" * 256)

    found = entries_from(bench, tmp_path, Odd)
    assert found.pop(b"") == ("directory", ["unreadable"])  # a name of 256 bytes is more than a manifest can hold
    assert set(found) == {b"\x1b[2J", b"file", b"\xff", b"new\nline"}


def test_more_names_than_any_folder_holds_end_it(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.ssh.sftp.MAX_FOLDER_ENTRIES", 300)

    class Endless(Server):
        async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            number = 0
            while True:
                number += 1
                yield asyncssh.SFTPName(b"%d" % number, attrs=attributes())

    with sftp_server(tmp_path, Endless) as running, pytest.raises(LimitExceededError):
        running.pull(bench, b"/evidence")


@pytest.mark.parametrize("name", [b".", b"file"])
def test_a_listing_that_goes_round_for_ever_ends(bench: Bench, tmp_path: Path, name: bytes) -> None:
    class Round(Server):
        async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            while True:
                yield asyncssh.SFTPName(name, attrs=attributes())

    with sftp_server(tmp_path, Round) as running, pytest.raises(LimitExceededError, match="again and again"):
        running.pull(bench, b"/evidence")


def test_folders_without_end_end_at_the_deepest_that_a_manifest_holds(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evidencesync.acquire.sftp_walk.MAX_DEPTH", 20)

    class Deep(Server):
        names = (b"folder",)

        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            return attributes(FOLDER)

    found = entries_from(bench, tmp_path, Deep)
    assert len(found) == 21
    assert [flags for _, flags in found.values() if flags] == [["unreadable"]]


@pytest.mark.parametrize("mode", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFLNK, 0, 0o170000, None])
def test_nothing_is_opened_but_what_is_said_to_be_a_regular_file(bench: Bench, tmp_path: Path, mode: int | None) -> None:
    opened: list[bytes] = []

    class Special(Server):
        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            return attributes(FOLDER) if path == b"/evidence" else attributes(mode, 10)

        def readlink(self, path: bytes) -> bytes:
            return b"/etc/passwd"

        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
            opened.append(path)
            return path

    entries_from(bench, tmp_path, Special)
    assert opened == []


def test_what_turns_out_to_be_something_else_when_it_is_open_is_not_read(bench: Bench, tmp_path: Path) -> None:
    class Swapped(Server):
        def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
            return attributes(stat.S_IFCHR | 0o666, 0)

    assert entries_from(bench, tmp_path, Swapped)[b"file"] == ("file", ["vanished"])


@pytest.mark.parametrize("size", [100, 3 * SMALL_FILE])
def test_a_link_that_took_a_files_place_is_told(bench: Bench, tmp_path: Path, size: int) -> None:
    seen: list[bytes] = []

    class Swapped(Server):
        content = bytes(size)

        def read(self, file_obj: object, offset: int, size: int) -> bytes:
            seen.append(b"read")
            return Server.read(self, file_obj, offset, size)

        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            if path == b"/evidence/file" and seen:
                return attributes(stat.S_IFLNK | 0o777, 5)
            return Server.lstat(self, path)

        def fstat(self, file_obj: object) -> asyncssh.SFTPAttrs:
            return attributes(REGULAR, size)

    assert entries_from(bench, tmp_path, Swapped)[b"file"] == ("file", ["changed-while-read"])


@pytest.mark.parametrize("real", [1, 4095, SMALL_FILE, SMALL_FILE + 1, 700_001])
@pytest.mark.parametrize("step", [1000, 300_000])
def test_a_file_that_says_it_is_empty_is_read_to_its_end(bench: Bench, tmp_path: Path, real: int, step: int) -> None:
    """As those under /proc do, whose server gives a page at a time."""

    class Unsized(Server):
        content = os.urandom(real)

        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            return attributes(FOLDER) if path == b"/evidence" else attributes(REGULAR, 0)

        def read(self, file_obj: object, offset: int, size: int) -> bytes:
            return Server.read(self, file_obj, offset, min(size, step))

    assert entries_from(bench, tmp_path, Unsized)[b"file"] == ("file", None)
    assert (bench.acquisition(1) / "data" / "file").read_bytes() == Unsized.content


@pytest.mark.parametrize("page", [4096, 65536])
@pytest.mark.parametrize("real", [0, 3, 4095])
def test_a_file_that_says_it_has_a_page_and_has_less_has_not_changed(bench: Bench, tmp_path: Path, page: int, real: int) -> None:
    """As those under /sys do."""

    class Paged(Server):
        content = os.urandom(real)

        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            return attributes(FOLDER) if path == b"/evidence" else attributes(REGULAR, page)

    assert entries_from(bench, tmp_path, Paged)[b"file"] == ("file", None)
    assert (bench.acquisition(1) / "data" / "file").read_bytes() == Paged.content


def test_a_file_of_a_page_that_was_being_written_has_changed(bench: Bench, tmp_path: Path) -> None:
    """It is cut to nothing and written anew: the first reading meets it in between, with no other time to the second."""
    asked: list[int] = []

    class Rewritten(Server):
        content = bytes(4096)

        def read(self, file_obj: object, offset: int, size: int) -> bytes:
            asked.append(offset)
            return b"" if len(asked) <= 2 else Server.read(self, file_obj, offset, size)

    assert entries_from(bench, tmp_path, Rewritten)[b"file"] == ("file", ["changed-while-read"])


@pytest.mark.parametrize("said", [3, 10, SMALL_FILE, 2 * SMALL_FILE, 30 * SMALL_FILE])
@pytest.mark.parametrize("real", [0, 7, SMALL_FILE + 7, 5 * SMALL_FILE])
def test_a_size_that_is_not_true_is_told(bench: Bench, tmp_path: Path, said: int, real: int) -> None:
    class Lying(Server):
        content = os.urandom(real)

        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            return attributes(FOLDER) if path == b"/evidence" else attributes(REGULAR, said)

    assert entries_from(bench, tmp_path, Lying)[b"file"] == ("file", ["changed-while-read"])
    assert (bench.acquisition(1) / "data" / "file").stat().st_size <= max(said, SMALL_FILE)


def test_a_file_without_end_is_read_as_far_as_its_size_said(bench: Bench, tmp_path: Path) -> None:
    class Endless(Server):
        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            return attributes(FOLDER) if path == b"/evidence" else attributes(REGULAR, 1_000_000)

        def read(self, file_obj: object, offset: int, size: int) -> bytes:
            return bytes(size)

    assert entries_from(bench, tmp_path, Endless)[b"file"] == ("file", ["changed-while-read"])
    assert (bench.acquisition(1) / "data" / "file").stat().st_size == 1_000_000


@pytest.mark.parametrize("step", [1000, 40_000])
def test_a_server_that_gives_less_at_once_than_it_was_asked_for_is_read_whole(bench: Bench, tmp_path: Path, step: int) -> None:
    class Stingy(Server):
        content = os.urandom(700_001)

        def read(self, file_obj: object, offset: int, size: int) -> bytes:
            return Server.read(self, file_obj, offset, min(size, step))

    assert entries_from(bench, tmp_path, Stingy)[b"file"] == ("file", None)
    assert (bench.acquisition(1) / "data" / "file").read_bytes() == Stingy.content


def test_an_end_in_the_middle_is_never_filled_up_with_zeros(bench: Bench, tmp_path: Path) -> None:
    class Holed(Server):
        content = b"x" * 3_000_000

        def read(self, file_obj: object, offset: int, size: int) -> bytes:
            return b"" if 1_000_000 <= offset < 1_300_000 else Server.read(self, file_obj, offset, size)

    assert entries_from(bench, tmp_path, Holed)[b"file"] == ("file", ["changed-while-read"])
    assert b"\0" not in (bench.acquisition(1) / "data" / "file").read_bytes()


@pytest.mark.parametrize("size", [10, 5 * SMALL_FILE])
def test_what_cannot_be_read_is_recorded(bench: Bench, tmp_path: Path, size: int) -> None:
    class Broken(Server):
        content = bytes(size)

        def read(self, file_obj: object, offset: int, size: int) -> bytes:
            raise asyncssh.SFTPFailure("input/output error \x1b[2J")

    assert entries_from(bench, tmp_path, Broken)[b"file"] == ("file", ["unreadable"])
    assert b'"on-read-error":"without-content"' in (bench.acquisition(1) / "manifest.jsonl").read_bytes()
    with pytest.raises(SourceGapsError), sftp_server(tmp_path, Broken) as running:
        running.pull(bench, b"/evidence", on_read_error="fail")
    assert bench.acquisitions() == ["0001"]


def test_what_may_not_be_opened_or_listed_is_recorded(bench: Bench, tmp_path: Path) -> None:
    class Closed(Server):
        names = (b"file", b"folder", b"link")

        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            kinds = {b"folder": FOLDER, b"link": stat.S_IFLNK | 0o777}
            return attributes(FOLDER) if path == b"/evidence" else attributes(kinds.get(path.rpartition(b"/")[2], REGULAR), 5)

        async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            if path != b"/evidence":
                raise asyncssh.SFTPPermissionDenied("no")
            async for name in Server.scandir(self, path):
                yield name

        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
            raise asyncssh.SFTPNoSuchFile("gone")

        def readlink(self, path: bytes) -> bytes:
            raise asyncssh.SFTPPermissionDenied("no")

    found = entries_from(bench, tmp_path, Closed)
    assert found == {
        b"": ("directory", None),
        b"file": ("file", ["vanished"]),
        b"folder": ("directory", ["unreadable"]),
        b"link": ("symlink", ["unreadable"]),
    }


@pytest.mark.parametrize("target", [b"", b"a\0b", b"x" * 5000])
def test_a_links_target_that_cannot_be_is_recorded_as_unreadable(bench: Bench, tmp_path: Path, target: bytes) -> None:
    class Lying(Server):
        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            return attributes(FOLDER) if path == b"/evidence" else attributes(stat.S_IFLNK | 0o777, 5)

        def readlink(self, path: bytes) -> bytes:
            return target

    assert entries_from(bench, tmp_path, Lying)[b"file"] == ("symlink", ["unreadable"])


def test_what_openssh_says_where_a_link_has_become_something_else_accuses_nobody(bench: Bench, tmp_path: Path) -> None:
    class Moving(Server):
        names = (b"file", b"link")

        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            return attributes(stat.S_IFLNK | 0o777, 5) if path.endswith(b"/link") else Server.lstat(self, path)

        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
            raise asyncssh.SFTPBadMessage("Bad message")  # ENAMETOOLONG

        def readlink(self, path: bytes) -> bytes:
            raise asyncssh.SFTPBadMessage("Bad message")  # EINVAL

    found = entries_from(bench, tmp_path, Moving)
    assert (found[b"file"], found[b"link"]) == (("file", ["unreadable"]), ("symlink", ["vanished"]))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("size", [5, SMALL_FILE + 1])
def test_a_fifo_that_took_a_files_place_holds_a_server_up_only_once(bench: Bench, tmp_path: Path, size: int) -> None:
    listed: list[bool] = []

    class Moving(Server):
        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            if path == b"/evidence" or not listed:
                return Server.lstat(self, path)
            return attributes(stat.S_IFIFO | 0o644)

        async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            yield asyncssh.SFTPName(b"file", attrs=attributes(REGULAR, size))
            listed.append(True)

        async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
            await _never()
            return path

    assert entries_from(bench, tmp_path, Moving, timeout_seconds=1, retries=3)[b"file"] == ("file", ["vanished"])


@pytest.mark.parametrize("size", [2**53, 2**63, 2**64 - 1])
def test_a_size_beyond_what_can_be_stated_is_that_of_one_file_and_stops_no_other(bench: Bench, tmp_path: Path, size: int) -> None:
    """A sparse file may really have it."""

    class Lying(Server):
        names = (b"file", b"huge")

        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            return attributes(REGULAR, size) if path.endswith(b"huge") else super().lstat(path)

    assert entries_from(bench, tmp_path, Lying) == {
        b"": ("directory", None),
        b"file": ("file", None),
        b"huge": ("file", ["unreadable"]),
    }


def test_limits_that_are_cut_off_are_a_broken_server_and_no_defect_of_ours(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server says of its limits is asked for before everything else, and outside of what is asked of paths."""
    monkeypatch.setattr(asyncssh.sftp.SFTPLimits, "encode", lambda _: b"\0" * 5)
    with sftp_server(tmp_path, Server) as running, pytest.raises(ProtocolError):
        running.pull(bench, b"/evidence")
    assert bench.acquisitions() == []


@pytest.mark.parametrize("real", [b"", b"relative", b"/a/../../etc", b"/a\0b"])
def test_a_real_path_that_cannot_be_ends_it(bench: Bench, tmp_path: Path, real: bytes) -> None:
    class Lying(Server):
        def realpath(self, path: bytes) -> bytes:
            return real

    with sftp_server(tmp_path, Lying) as running, pytest.raises(ProtocolError):
        running.pull(bench, b"/evidence")


def test_what_is_not_there_or_no_evidence_is_said(bench: Bench, tmp_path: Path) -> None:
    with sftp_server(tmp_path) as running:
        with pytest.raises(SourceNotFoundError):
            running.pull(bench, b"/no/such/place")
        with pytest.raises(UsageError):
            running.pull(bench, b"/dev/null")


async def _never() -> None:
    await asyncio.sleep(3600)


class _SilentReads(Server):
    async def read(self, file_obj: object, offset: int, size: int) -> bytes:  # type: ignore[override]
        await _never()
        return b""


class _SilentLists(Server):
    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        await _never()
        yield asyncssh.SFTPName(b"")


def test_a_server_that_does_not_answer_is_a_lost_link(tmp_path: Path) -> None:
    def wait_in_vain(folder: Path, server: type[Server]) -> None:
        bench = make_bench(folder)
        with sftp_server(folder, server) as running, pytest.raises(LinkLostError):
            running.pull(bench, b"/evidence", timeout_seconds=2)
        assert bench.acquisitions() == []

    try_all(wait_in_vain, [(_SilentReads,), (_SilentLists,)], tmp_path)


@pytest.mark.parametrize("when", ["listing", "reading"])
def test_a_connection_that_is_lost_is_no_gap_in_the_evidence(bench: Bench, tmp_path: Path, when: str) -> None:
    connections: list[Callable[[], None]] = []

    class Dropping(Server):
        content = random.Random(1).randbytes(12_000_000)

        def __init__(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
            super().__init__(chan)
            connections.append(chan.get_connection().abort)

        async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            if when == "listing":
                connections[0]()
            async for name in Server.scandir(self, path):
                yield name

        def read(self, file_obj: object, offset: int, size: int) -> bytes:
            if when == "reading" and offset > 9_000_000:
                connections[0]()
            return Server.read(self, file_obj, offset, size)

    with sftp_server(tmp_path, Dropping) as running, pytest.raises(EvidenceSyncError) as raised:
        running.pull(bench, b"/evidence")
    assert raised.value.exit_code == 23
    assert bench.acquisitions() == []

    class Steady(Server):
        content = Dropping.content

    with sftp_server(tmp_path, Steady) as running:
        again = running.pull(bench, b"/evidence")
    assert (again.acquisition, again.leftovers) == (1, 1)


class _Breaking(Server):
    """Drops the first connection in the middle of its file, when the first bytes have been taken for certain."""

    content = random.Random(2).randbytes(12_000_000)
    connections: ClassVar[list[Callable[[], None]]]
    asked: ClassVar[list[tuple[int, int]]]

    def __init_subclass__(cls) -> None:
        cls.connections, cls.asked = [], []

    def __init__(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        super().__init__(chan)
        self.connections.append(chan.get_connection().abort)
        self.number = len(self.connections)

    def read(self, file_obj: object, offset: int, size: int) -> bytes:
        if self.number == 1 and offset > 10_000_000:
            self.connections[0]()
        self.asked.append((self.number, offset))
        return Server.read(self, file_obj, offset, size)


@pytest.mark.usefixtures("at_once")
def test_after_a_lost_connection_a_file_is_read_on_at_its_place(bench: Bench, tmp_path: Path) -> None:
    class Honest(_Breaking):
        pass

    with sftp_server(tmp_path, Honest) as running:
        outcome = running.pull(bench, b"/evidence", retries=2)
    assert (outcome.interruptions, outcome.tally.manifest.flags) == (1, {})
    assert (bench.acquisition(1) / "data" / "file").read_bytes() == Honest.content
    first = min(offset for number, offset in Honest.asked if number == 2)
    assert first > 1_000_000  # the seam: the last bytes that had come


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("sign", ["time", "size", "none"])
@pytest.mark.parametrize("cheap", [16_000_000, 0])
def test_a_file_that_is_another_one_when_the_link_is_back_is_never_joined_to_the_first(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str, cheap: int
) -> None:
    """It is read from its start again; or, where that is too much, it is marked: a mixture."""
    monkeypatch.setattr("evidencesync.acquire.sftp_connection.CHEAP_TO_READ_AGAIN", cheap)
    longer = 1000 if sign == "size" else 0

    class Changed(_Breaking):
        content = b"a" * 12_000_000

        def __init__(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
            super().__init__(chan)
            if self.number > 1:
                self.content = b"b" * (12_000_000 + longer)

        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            seen = Server.lstat(self, path)
            if self.number > 1 and sign == "time" and path != b"/evidence":
                seen.mtime = 2
            return seen

    with sftp_server(tmp_path, Changed) as running:
        outcome = running.pull(bench, b"/evidence", retries=2)
    content = (bench.acquisition(1) / "data" / "file").read_bytes()
    if cheap:
        assert (outcome.tally.manifest.flags, content == b"b" * (12_000_000 + longer)) == ({}, True)
        assert outcome.tally.read_again == (sign != "none")
        assert bench.entries(1)[b"file"].mtime == ("2.000000000" if sign == "time" else "1.000000000")
    else:
        assert (outcome.tally.manifest.flags, set(content)) == ({"changed-while-read": 1}, set(b"ab"))


@pytest.mark.usefixtures("at_once")
def test_a_file_without_a_size_is_made_anew_and_so_read_from_its_start_again(bench: Bench, tmp_path: Path) -> None:
    class Unsized(_Breaking):
        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            return attributes(FOLDER) if path == b"/evidence" else attributes(REGULAR, 0)

    with sftp_server(tmp_path, Unsized) as running:
        outcome = running.pull(bench, b"/evidence", retries=2)
    assert (outcome.interruptions, outcome.tally.manifest.flags, outcome.tally.read_again) == (1, {}, 0)
    assert (2, 0) in Unsized.asked
    assert (bench.acquisition(1) / "data" / "file").read_bytes() == Unsized.content


@pytest.mark.usefixtures("at_once")
def test_a_file_that_is_gone_when_the_link_is_back_has_vanished(bench: Bench, tmp_path: Path) -> None:
    class Gone(_Breaking):
        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
            if self.number > 1:
                raise asyncssh.SFTPNoSuchFile("gone")
            return path

    with sftp_server(tmp_path, Gone) as running:
        running.pull(bench, b"/evidence", retries=2)
    entry = bench.entries(1)[b"file"]
    assert (entry.flags, entry.blake3) == (["vanished"], None)


@pytest.mark.usefixtures("at_once")
def test_a_source_that_is_gone_when_the_link_is_back_ends_it(bench: Bench, tmp_path: Path) -> None:
    """Not each of its files is called vanished: perhaps a disk was unplugged, or it is another machine."""

    class Unplugged(_Breaking):
        def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
            if self.number > 1:
                raise asyncssh.SFTPNoSuchFile("gone")
            return Server.lstat(self, path)

    with sftp_server(tmp_path, Unplugged) as running, pytest.raises(SourceNotFoundError):
        running.pull(bench, b"/evidence", retries=2)
    assert bench.acquisitions() == []


@pytest.mark.usefixtures("at_once")
def test_another_host_key_when_the_link_is_back_ends_it(bench: Bench, tmp_path: Path) -> None:
    """Also one that is known: the manifest names one server."""

    class First(_Breaking):
        pass

    (tmp_path / "other").mkdir()
    with sftp_server(tmp_path, First) as running, sftp_server(tmp_path / "other", Server) as other:
        servers = [running, other]
        with pytest.raises(HostKeyError) as raised:
            pull_over_sftp(lambda: servers.pop(0).connect(), bench, b"/evidence", retries=5)
    assert (raised.value.exit_code, servers, bench.acquisitions()) == (21, [], [])


@pytest.mark.usefixtures("at_once")
def test_a_server_that_hangs_up_at_one_place_for_ever_is_lost_when_the_attempts_are_used_up(bench: Bench, tmp_path: Path) -> None:
    class Hopeless(_Breaking):
        def read(self, file_obj: object, offset: int, size: int) -> bytes:
            if offset > 10_000_000:
                self.connections[-1]()
            return Server.read(self, file_obj, offset, size)

    with sftp_server(tmp_path, Hopeless) as running, pytest.raises(LinkLostError):
        running.pull(bench, b"/evidence", retries=3)
    assert bench.acquisitions() == []
    assert 4 <= len(Hopeless.connections) < 40  # each brings a little more, until the next asks for what none gives


def test_a_real_folder_of_asyncssh_is_pulled_and_verified_again(bench: Bench, tmp_path: Path) -> None:
    (bench.source / "folder").mkdir()
    (bench.source / "folder" / "image").write_bytes(os.urandom(2_000_000))
    for number in range(200):
        (bench.source / f"{number}").write_bytes(os.urandom(number))
    with sftp_server(tmp_path) as running:
        first = running.pull(bench, os.fsencode(bench.source))
        second = running.pull(bench, os.fsencode(bench.source))
    assert (first.tally.manifest.contents, first.tally.manifest.flags) == (201, {})
    assert (second.literal_bytes, second.stored.linked.files) == (0, 200)  # an empty file has nothing to link
