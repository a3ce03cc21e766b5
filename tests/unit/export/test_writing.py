"""Whole or not at all, never over anything, never in the vault, and never what was not acquired."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

import evidencesync.export.run
from evidencesync.errors import DigestMismatchError, MissingOrExtraError, NoSpaceError, StorageError, UsageError
from evidencesync.export import destination
from evidencesync.export.acquisition import AcquisitionReader
from evidencesync.export.run import Exported, ExportRequest, Format, export_acquisition
from evidencesync.verify.context import VerifyProgress
from tests.conftest import find_program
from tests.support.bench_of_evidence import Bench, copy_of, make_bench
from tests.support.file_systems import mounted
from tests.unit.export.exporting import NOW_NS, bagit_program, export, files_below, write_files

LARGE = os.urandom(3 << 20)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = make_bench(tmp_path_factory.mktemp("template"))
    write_files(bench.source, {b"small": b"small", b"zlarge": LARGE})
    bench.push()
    return bench


@pytest.fixture
def full(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def overwrite(bench: Bench, name: str, data: bytes) -> None:
    stored = bench.acquisition(1) / name
    stored.chmod(0o644)
    stored.write_bytes(data)


@pytest.mark.parametrize("form", Format)
def test_nothing_is_written_over_what_is_there(form: Format, full: Bench, tmp_path: Path) -> None:
    for name, make in (("file", lambda path: path.write_bytes(b"")), ("folder", Path.mkdir), ("link", _dangle)):
        make(tmp_path / name)
        with pytest.raises(UsageError, match="is there already"):
            export(full, form, tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "link", "source", "vault"]


def _dangle(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("form", Format)
def test_what_takes_the_name_meanwhile_is_not_replaced(form: Format, full: Bench, tmp_path: Path) -> None:
    wanted = ExportRequest(full.vault, full.vault.item(full.name), 1, form, tmp_path / "out", [], NOW_NS)
    told = list[Exported]()

    with wanted.open_destination() as place, pytest.raises(UsageError, match="is there already"):
        (tmp_path / "out").write_bytes(b"another's")
        export_acquisition(wanted, place, told.append, VerifyProgress())
    assert told == []
    assert (tmp_path / "out").read_bytes() == b"another's"
    assert sorted(os.listdir(tmp_path)) == ["out", "source", "vault"]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("form", Format)
def test_a_name_that_cannot_be_made_durable_is_taken_back(
    form: Format, links: bool, full: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def full_disk(*_: object) -> None:
        raise NoSpaceError("could not sync")

    monkeypatch.setattr(destination, "sync_folder", full_disk)
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(NoSpaceError):
        export(full, form, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["source", "vault"]


class _SaysItWasFull(io.BufferedWriter):
    def close(self) -> None:
        was_open = not self.closed
        super().close()
        if was_open:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_when_the_file_is_closed_has_no_export(
    full: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.fdopen

    def fdopen(fd: int, mode: str, **options: Any) -> IO[Any]:
        return _SaysItWasFull(io.FileIO(fd, mode)) if mode == "wb" else really(fd, mode, **options)

    monkeypatch.setattr(os, "fdopen", fdopen)
    with pytest.raises(NoSpaceError):
        export(full, Format.HASHDEEP, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["source", "vault"]


def test_a_draft_that_keeps_its_name_leaves_no_export(full: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really, refused = os.unlink, [True]

    def unlink(name: str, *, dir_fd: int | None = None) -> None:
        if name.startswith(".evidencesync-export-") and refused:
            refused.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        really(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(StorageError):
        export(full, Format.HASHDEEP, tmp_path / "out")
    assert (refused, sorted(os.listdir(tmp_path))) == ([], ["source", "vault"])


@pytest.mark.parametrize("form", Format)
def test_what_fails_after_the_export_has_its_name_is_no_failure(
    form: Format, full: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(destination, "remove_if_there", refuse)
    monkeypatch.setattr(destination, "remove_tree", refuse)
    export(full, form, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["out", "source", "vault"]


def test_no_export_lies_in_the_vault_by_any_way(full: Bench, tmp_path: Path) -> None:
    vault = full.vault.layout.root
    (tmp_path / "way").symlink_to(vault / "cases")
    for place in (vault, vault / "cases", full.acquisition(1), full.acquisition(1) / "data", tmp_path / "way"):
        with pytest.raises(UsageError, match="in the vault"):
            export(full, Format.HASHDEEP, place / "out")
    assert not list(vault.rglob("*evidencesync-export*"))


@pytest.mark.parametrize("wanted", ["nowhere/out", "small-file/out", "/", "."])
def test_a_destination_that_is_none_is_a_usage_error(wanted: str, full: Bench, tmp_path: Path) -> None:
    (tmp_path / "small-file").write_bytes(b"")
    with pytest.raises(UsageError):
        export(full, Format.HASHDEEP, tmp_path / wanted if wanted != "." else tmp_path)


@pytest.mark.parametrize(
    ("name", "data"),
    [("small", b"SMALL"), ("small", b"longer"), ("small", b""), ("zlarge", b"x" + LARGE[1:]), ("zlarge", LARGE[:-1])],
)
def test_what_changes_after_it_was_verified_leaves_nothing_behind(name: str, data: bytes, full: Bench, tmp_path: Path) -> None:
    overwrite(full, f"data/{name}", data)
    with pytest.raises(DigestMismatchError):
        export(full, Format.BAGIT, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["source", "vault"]


def test_a_file_that_is_gone_leaves_nothing_behind(full: Bench, tmp_path: Path) -> None:
    (full.acquisition(1) / "data" / "zlarge").unlink()
    with pytest.raises(MissingOrExtraError):
        export(full, Format.BAGIT, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["source", "vault"]


@pytest.mark.parametrize("form", Format)
def test_a_manifest_that_the_receipt_does_not_name_is_not_exported(form: Format, full: Bench, tmp_path: Path) -> None:
    manifest = (full.acquisition(1) / "manifest.jsonl").read_bytes()
    overwrite(full, "manifest.jsonl", manifest.replace(b'"Ana"', b'"Eva"', 1))
    with pytest.raises(DigestMismatchError):
        export(full, form, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["source", "vault"]


def test_a_document_that_changes_while_it_is_exported_leaves_nothing_behind(
    full: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = AcquisitionReader.entries

    def meddle(acquisition: AcquisitionReader) -> Iterator[object]:
        yield from entries(acquisition)
        overwrite(full, "chunks.bin", os.urandom(50))

    monkeypatch.setattr(AcquisitionReader, "entries", meddle)
    with pytest.raises(DigestMismatchError, match=r"chunks\.bin"):
        export(full, Format.BAGIT, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["source", "vault"]


@pytest.mark.parametrize("form", Format)
def test_what_is_refused_before_the_end_leaves_nothing_behind(form: Format, full: Bench, tmp_path: Path) -> None:
    wanted = ExportRequest(full.vault, full.vault.item(full.name), 1, form, tmp_path / "out", [], NOW_NS)

    def refuse(exported: Exported) -> None:
        assert exported.files == 2
        assert (tmp_path / "out").exists()
        raise KeyboardInterrupt

    with wanted.open_destination() as place, pytest.raises(KeyboardInterrupt):
        export_acquisition(wanted, place, refuse, VerifyProgress())
    assert sorted(os.listdir(tmp_path)) == ["source", "vault"]


def test_a_full_disk_leaves_nothing_behind_and_the_hint_is_about_both_disks(full: Bench, tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path, 2 << 20, find_program) as small:
        with pytest.raises(NoSpaceError) as full_disk:
            export(full, Format.BAGIT, small / "out")
        assert os.listdir(small) == []
    assert "destination" in (full_disk.value.hint or "")


@pytest.mark.parametrize("kind", ["xfs", "btrfs", "vfat"])
def test_other_file_systems_hold_exports_too(kind: str, full: Bench, tmp_path: Path) -> None:
    with mounted(kind, tmp_path, 400 << 20, find_program) as place:
        export(full, Format.BAGIT, place / "bag")
        assert bagit_program(place / "bag").returncode == 0
        export(full, Format.HASHDEEP, place / "known")
        assert sorted(os.listdir(place)) == ["bag", "known"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_that_sets_no_times_holds_a_bag(
    code: int, full: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", refuse)
        export(full, Format.BAGIT, tmp_path / "bag")
    assert bagit_program(tmp_path / "bag").returncode == 0


def test_a_file_system_that_ignores_case_is_refused_where_it_would_lose_a_file(bench: Bench, tmp_path: Path) -> None:
    write_files(bench.source, {b"Readme": b"1", b"README": b"2"})
    bench.push()
    with mounted("vfat", tmp_path, 64 << 20, find_program) as place:
        with pytest.raises(UsageError, match="destination's file system has the name already"):
            export(bench, Format.BAGIT, place / "bag")
        assert os.listdir(place) == []


@pytest.mark.slow
def test_a_vault_shares_blocks_with_a_bag_on_its_own_disk_and_keeps_its_bytes(tmp_path: Path) -> None:
    from tests.support.bench_of_evidence import make_bench

    with mounted("xfs", tmp_path, 400 << 20, find_program) as place:
        bench = make_bench(place)
        write_files(bench.source, {b"image": os.urandom(64 << 20)})
        bench.push()
        os.sync()
        before = os.statvfs(place).f_bfree * os.statvfs(place).f_bsize
        export(bench, Format.BAGIT, place / "bag")
        os.sync()
        assert before - os.statvfs(place).f_bfree * os.statvfs(place).f_bsize < 8 << 20
        with open(place / "bag" / "data" / "image", "r+b") as copy:
            copy.write(b"changed")
        os.sync()
        assert bench.vault.item(bench.name).acquisitions() == [1]
        assert files_below(bench.acquisition(1) / "data") == files_below(bench.source)


@pytest.mark.slow
def test_holes_stay_holes(bench: Bench, tmp_path: Path) -> None:
    with open(bench.source / "sparse", "wb") as file:
        file.truncate(256 << 20)
        file.seek(100 << 20)
        file.write(b"data")
    bench.push()
    export(bench, Format.BAGIT, tmp_path / "bag")
    found = (tmp_path / "bag" / "data" / "sparse").stat()
    assert found.st_size == 256 << 20
    assert found.st_blocks * 512 < 1 << 20


def test_the_room_knows_all_formats_of_the_command_line() -> None:
    assert [form.value for form in evidencesync.export.run.Format] == ["bagit", "hashdeep", "case-uco"]


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_an_export_that_was_killed_has_left_is_removed_by_the_next(tmp_path: Path, *, is_folder: bool) -> None:
    left = tmp_path / ".evidencesync-export-0123456789abcdef"
    if is_folder:
        (left / "data").mkdir(parents=True)
        (left / "data" / "half").write_bytes(b"half")
    else:
        left.write_bytes(b"half")
    with destination.Destination(tmp_path / "first", tmp_path / "vault") as first:
        assert first.removed == [str(left)]
        in_use = first.new_folder if is_folder else first.new_file
        with in_use(), destination.Destination(tmp_path / "second", tmp_path / "vault") as second:
            assert second.removed == []
