"""A process that gets no more memory, threads or open files says so, and calls it neither a defect nor damaged evidence."""

from __future__ import annotations

import errno
import importlib.abc
import os
import resource
import sys
import threading
from pathlib import Path

import pytest

from evidencesync.cli.console import Console
from evidencesync.cli.guard import guard
from evidencesync.custody.chain import ChainSubject
from evidencesync.errors import EvidenceSyncError, InternalError, NoSpaceError, ResourcesError, StorageError
from evidencesync.exit_codes import ExitCode
from evidencesync.export.destination import _of_the_destination
from evidencesync.export.encrypt import _rage
from evidencesync.files.disk import storage_error
from evidencesync.files.shortages import require_address_space, unexpected
from evidencesync.localstate import heads
from evidencesync.outside import NewFile, refused_place
from evidencesync.report.pdf_report import require_typst
from evidencesync.restore.refusals import place_error
from evidencesync.restore.restore import open_draft
from tests.support.bench_of_evidence import make_bench

SHORTAGES = [
    RuntimeError("can't start new thread"),
    MemoryError(),
    OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    OSError(errno.ENFILE, os.strerror(errno.ENFILE)),
    BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),  # what fork(2) says at the limit of processes
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ImportError("/x/_rust.abi3.so: failed to map segment from shared object"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: f"{type(error).__name__} {error}"[:40])
def test_a_shortage_is_said_with_its_slug_and_what_to_do(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> ExitCode:
        raise error

    assert guard(Console(as_json=True), work) == ExitCode.INTERNAL
    said = capsys.readouterr()
    assert '"slug":"resources"' in said.out.replace(" ", "")
    assert "ulimit" in said.out
    assert "defect" not in said.out + said.err


@pytest.mark.parametrize("error", [RuntimeError("another"), ValueError("x"), OSError(errno.EBADF, "x"), ImportError("no such")])
def test_everything_else_that_is_unforeseen_is_a_defect(error: Exception) -> None:
    assert type(unexpected(error)) is InternalError


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        *((number, StorageError) for number in (errno.EIO, errno.EACCES, errno.ESTALE)),
        *((number, StorageError) for number in (errno.ENOTCONN, errno.ECONNABORTED, errno.EHOSTDOWN, errno.ENOKEY)),
        *((number, StorageError) for number in (errno.ENODATA, errno.EILSEQ, errno.EBADE, errno.EBUSY)),
        (errno.ENOSPC, NoSpaceError),
    ],
)
def test_what_a_disk_refuses_is_no_defect_wherever_it_is_met(
    number: int, kind: type[EvidenceSyncError], capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> ExitCode:
        raise OSError(number, os.strerror(number), "/vault/cases")

    assert guard(Console(as_json=False), work) == kind.exit_code
    said = capsys.readouterr().err
    assert f"{os.strerror(number)} [/vault/cases]" in said
    assert "defect" not in said
    assert type(unexpected(OSError(number, os.strerror(number)))) is kind


def test_a_name_that_cannot_be_shown_is_left_out_of_what_a_disk_refused() -> None:
    assert "\x1b" not in unexpected(OSError(errno.EIO, os.strerror(errno.EIO), "/vault/\x1b[2J")).message


def test_the_vaults_disk_is_not_blamed_for_too_many_open_files() -> None:
    full = storage_error(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "open a file")
    assert isinstance(full, ResourcesError)
    assert type(storage_error(OSError(errno.EAGAIN, "busy"), "open a file")) is StorageError
    assert type(storage_error(OSError(errno.EIO, "bad"), "open a file")) is StorageError


def test_the_disk_of_a_working_copy_is_not_blamed_for_too_many_open_files() -> None:
    assert type(place_error(OSError(errno.EMFILE, "too many"), "make a file")) is ResourcesError
    assert type(place_error(OSError(errno.EDQUOT, "quota"), "make a file")) is NoSpaceError
    assert "at the destination" in (place_error(OSError(errno.EIO, "bad"), "make a file").hint or "")


def test_what_is_remembered_is_not_called_damaged_where_no_file_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(heads, "opened_folder", refuse)
    with pytest.raises(ResourcesError):
        heads.HeadMemory(tmp_path).recall(ChainSubject("0" * 32, None, None))
    with pytest.raises(ResourcesError):
        heads.HeadMemory(tmp_path).recall_vault("0" * 32)


class PanicException(BaseException):
    """As the one of pyo3, which Rust libraries (typst, blake3, age) raise where they give up."""


@pytest.mark.parametrize("error", [SystemError("error return without exception set"), PanicException("assertion failed")])
@pytest.mark.parametrize(("limit", "slug"), [(1 << 30, "resources"), (resource.RLIM_INFINITY, "internal-error")])
def test_what_fails_beyond_all_exceptions_is_said_in_one_line_and_is_a_shortage_where_memory_is_limited(
    error: BaseException, limit: int, slug: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> ExitCode:
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert guard(Console(as_json=True), work) == ExitCode.INTERNAL
    said = capsys.readouterr()
    assert f'"{slug}"' in said.out
    assert "Traceback" not in said.out + said.err


def test_other_ends_of_a_process_are_left_alone() -> None:
    def work() -> ExitCode:
        raise SystemExit(7)

    with pytest.raises(SystemExit):
        guard(Console(), work)


def test_a_thread_that_cannot_be_started_ends_a_push_as_a_shortage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that reads the source; whichever it is, nothing is published, and the next run is not hindered."""
    bench = make_bench(tmp_path)
    (bench.source / "a").write_bytes(b"one")
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "source":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start") as caught:
            bench.push()
        assert isinstance(unexpected(caught.value), ResourcesError)
    assert bench.acquisitions() == []
    assert bench.push().acquisition == 1


def test_a_limit_on_the_size_of_files_is_named(tmp_path: Path) -> None:
    """Wherever it is met: where nobody has foreseen it, in a vault, and where a new file is made."""
    refused = OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    with pytest.raises(StorageError) as made, NewFile(tmp_path / "new", (), "") as place, place.writing():
        raise refused
    with pytest.raises(StorageError) as exported, _of_the_destination("/place/bag"):
        raise storage_error(refused, "write") from refused
    with pytest.raises(StorageError) as written, _of_the_destination("/place/bag"):
        raise refused
    others = [
        made.value,
        exported.value,
        written.value,
        place_error(refused, "make"),
        heads.HeadMemory(tmp_path)._unusable(refused),
    ]
    others.append(refused_place(refused, "receipts cannot be kept", "Name another folder."))
    for error in (unexpected(refused), storage_error(refused, "write"), *others):
        assert error.slug in ("storage", "remembered-heads")
        assert "ulimit -f" in (error.hint or "")
    other = OSError(errno.EIO, os.strerror(errno.EIO))
    assert "ulimit" not in (storage_error(other, "write").hint or "")


def test_the_place_of_a_copy_and_of_an_export_is_named_where_its_disk_refuses(tmp_path: Path) -> None:
    """What is in it is named by its own path alone, which says nothing of where that lies."""
    broken = OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(StorageError) as exported, _of_the_destination("/place/bag"):
        raise storage_error(broken, "write bagit.txt") from broken
    assert "/place/bag" in (exported.value.hint or "")
    (tmp_path / "vault").mkdir()
    for code, kind in ((errno.EIO, StorageError), (errno.ENOSPC, NoSpaceError)):
        with pytest.raises(kind) as restored, open_draft(os.fsencode(tmp_path / "copy"), tmp_path / "vault"):
            raise place_error(OSError(code, os.strerror(code)), "make sub/b")
        assert str(tmp_path / "copy") in (restored.value.hint or "")


@pytest.mark.parametrize("part", ["typst", "pyrage"])
def test_a_part_for_which_there_is_no_memory_is_not_called_missing(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name == part:
                raise ImportError(f"/x/{part}.abi3.so: failed to map segment from shared object")

    monkeypatch.delitem(sys.modules, part, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    with pytest.raises(ResourcesError):
        require_typst() if part == "typst" else _rage()


def test_a_pdf_for_which_there_is_no_memory_is_refused_before_its_library_aborts(monkeypatch: pytest.MonkeyPatch) -> None:
    """typst ends the whole process where an allocation is refused: nothing could be said then."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (used + (60 << 20), resource.RLIM_INFINITY))
    with pytest.raises(ResourcesError, match="not enough memory for a PDF") as raised:
        require_typst()
    assert "ulimit -v" in (raised.value.hint or "")


@pytest.mark.parametrize("limit", [resource.RLIM_INFINITY, 1 << 45])
def test_memory_is_not_called_short_where_no_limit_is_near(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, resource.RLIM_INFINITY))
    require_address_space(1 << 30, "anything")
