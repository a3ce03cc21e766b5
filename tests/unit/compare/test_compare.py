"""`compare`: a folder against a manifest alone. What each thing that can happen to a tree is called, and what is never done."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from evidencesync.compare import entry, manifest_file, store
from evidencesync.compare.folder import CompareRequest, compare_folder
from evidencesync.compare.store import Category, Compared
from evidencesync.custody.trust import signer_line
from evidencesync.errors import EvidenceSyncError, IncompleteError, MalformedDocumentError, SignatureError, UsageError
from evidencesync.exit_codes import ExitCode
from evidencesync.source import reader
from evidencesync.source.descriptor import open_untouched
from evidencesync.source.filters import FilterRules
from evidencesync.vault import file_checks
from evidencesync.verify.context import VerifyProgress
from tests.support.bench_of_evidence import new_signer
from tests.support.manifest_of_a_folder import write_manifest
from tests.support.moments import LONG_AFTER_NS
from tests.support.patience import PATIENCE_SECONDS
from tests.support.unreadable import Unreadable

NOW_NS = LONG_AFTER_NS
Told = set[tuple[str, bytes, bytes | None]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name, content in {"a": "a", "b": "b", "same-1": "same", "same-2": "same", "empty": "", "in/deep": "d"}.items():
        write(folder / name, content)
    return folder


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def compared(manifest: Path, folder: Path, **options: object) -> Compared:
    return compare_folder(CompareRequest(manifest, folder, **options), VerifyProgress(), NOW_NS)  # type: ignore[arg-type]


def told(outcome: Compared) -> Told:
    return {(one.category.value, one.path, one.listed) for one in outcome.differences}


@pytest.fixture
def manifest(source: Path, tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "manifest.jsonl", source)


def test_how_much_is_to_be_read_is_known_from_the_manifest(source: Path, manifest: Path) -> None:
    progress = VerifyProgress()
    compare_folder(CompareRequest(manifest, source), progress, NOW_NS)
    assert (progress.bytes, progress.total_bytes) == (11, 11)


def test_the_source_itself_is_the_same_and_its_access_times_stay(source: Path, manifest: Path) -> None:
    files = [path for path in source.rglob("*") if path.is_file()]
    for path in files:
        os.utime(path, ns=(1, path.stat().st_mtime_ns))  # so old that any reading would set it
    outcome = compared(manifest, source, metadata=True, all_digests=True)
    assert (outcome.exit_code, outcome.differences, outcome.left_out) == (ExitCode.COMPLETE, [], 0)
    assert (outcome.listed, outcome.found, outcome.files[Category.MATCHED], outcome.others[Category.MATCHED]) == (6, 6, 6, 2)
    assert outcome.metadata is not None
    assert outcome.metadata.total() == 0
    assert {path.stat().st_atime_ns for path in files} == {1}


def test_a_modified_file_is_modified_also_where_its_size_and_time_are_the_same(source: Path, manifest: Path) -> None:
    before = (source / "a").stat()
    write(source / "a", "x")
    os.utime(source / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    outcome = compared(manifest, source)
    assert told(outcome) == {("modified", b"a", None)}
    assert outcome.exit_code == ExitCode.DIGEST


def test_moved_duplicated_missing_and_new_are_told_apart(source: Path, manifest: Path) -> None:
    (source / "a").rename(source / "z")
    shutil.copy(source / "b", source / "b copy")
    (source / "in" / "deep").unlink()
    write(source / "news", "news")
    outcome = compared(manifest, source)
    assert told(outcome) == {
        ("moved", b"z", b"a"),
        ("duplicated", b"b copy", b"b"),
        ("missing", b"in/deep", None),
        ("new", b"news", None),
    }
    assert outcome.exit_code == ExitCode.MISSING_OR_EXTRA


def test_one_of_two_equal_files_that_moved_beside_the_other_is_one_move(source: Path, manifest: Path) -> None:
    (source / "same-1").rename(source / "same-3")
    assert told(compared(manifest, source)) == {("moved", b"same-3", b"same-1")}


def test_of_two_copies_of_a_moved_file_one_is_the_move_and_one_a_copy(source: Path, manifest: Path) -> None:
    (source / "a").rename(source / "moved-1")
    shutil.copy(source / "moved-1", source / "moved-2")
    assert told(compared(manifest, source)) == {("moved", b"moved-1", b"a"), ("duplicated", b"moved-2", b"a")}


def test_one_of_two_equal_files_that_is_gone_is_missing_though_its_content_is_there(source: Path, manifest: Path) -> None:
    (source / "same-2").unlink()
    assert told(compared(manifest, source)) == {("missing", b"same-2", None)}


def test_a_name_with_other_content_while_the_old_content_moved_is_both(source: Path, manifest: Path) -> None:
    """A rotated log: the content is not lost, and the name holds another one."""
    (source / "a").rename(source / "a.1")
    write(source / "a", "the next log")
    assert told(compared(manifest, source)) == {("modified", b"a", None), ("moved", b"a.1", b"a")}


def test_two_files_that_changed_places_are_modified_and_it_is_said_whose_content_they_have(source: Path, manifest: Path) -> None:
    (source / "a").rename(source / "t")
    (source / "b").rename(source / "a")
    (source / "t").rename(source / "b")
    assert told(compared(manifest, source)) == {("modified", b"a", b"b"), ("modified", b"b", b"a")}


def test_an_empty_file_is_never_taken_for_the_move_or_the_copy_of_another(source: Path, manifest: Path) -> None:
    (source / "empty").rename(source / "renamed")
    write(source / "another", "")
    write(source / "a", "")
    assert told(compared(manifest, source)) == {
        ("missing", b"empty", None),
        ("new", b"renamed", None),
        ("new", b"another", None),
        ("modified", b"a", None),
    }


def test_a_renamed_folder_is_its_files_moved(source: Path, manifest: Path) -> None:
    (source / "in").rename(source / "out")
    outcome = compared(manifest, source)
    assert told(outcome) == {("moved", b"out/deep", b"in/deep"), ("missing", b"in", None), ("new", b"out", None)}
    assert (outcome.others[Category.MISSING], outcome.others[Category.NEW], outcome.files[Category.MOVED]) == (1, 1, 1)


def test_links_and_special_files_are_compared_and_never_opened(source: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write(secret, "not in the folder")
    (source / "link").symlink_to(secret)
    (source / "turned").symlink_to("a")
    os.mkfifo(source / "pipe")
    os.mkfifo(source / "was-pipe")
    manifest = write_manifest(tmp_path / "manifest.jsonl", source)
    assert compared(manifest, source).exit_code == ExitCode.COMPLETE
    (source / "turned").unlink()
    (source / "turned").symlink_to("b")
    (source / "was-pipe").unlink()
    (source / "was-pipe").symlink_to("pipe")
    (source / "a").unlink()
    os.mkfifo(source / "a")  # whoever opened it would wait for ever
    (source / "pipe-2").symlink_to("/dev/zero")
    outcome: list[Compared] = []
    thread = threading.Thread(target=lambda: outcome.append(compared(manifest, source)), daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert told(outcome[0]) == {
        ("modified", b"turned", None),
        ("modified", b"was-pipe", None),
        ("modified", b"a", None),
        ("new", b"pipe-2", None),
    }


def test_a_link_to_the_same_content_does_not_pass_for_the_file(source: Path, manifest: Path) -> None:
    (source / "same-1").unlink()
    (source / "same-1").symlink_to("same-2")
    outcome = compared(manifest, source)
    assert told(outcome) == {("modified", b"same-1", None)}
    assert outcome.differences[0].detail == "a symlink in place of a file"


def test_in_a_data_folder_links_and_special_files_are_absent_by_design_and_modes_are_the_vaults(
    source: Path, tmp_path: Path
) -> None:
    (source / "link").symlink_to("a")
    os.mkfifo(source / "pipe")
    manifest = write_manifest(tmp_path / "manifest.jsonl", source)
    data = tmp_path / "data"  # beside the manifest
    shutil.copytree(source, data, symlinks=True, ignore=shutil.ignore_patterns("link", "pipe"))
    for path in data.rglob("*"):
        path.chmod(0o555)
    outcome = compared(manifest, data, metadata=True)
    assert (outcome.exit_code, outcome.absent_by_design, outcome.metadata) == (ExitCode.COMPLETE, 2, None)
    elsewhere = data.rename(tmp_path / "copy")
    assert compared(manifest, elsewhere, is_data=True).absent_by_design == 2
    assert told(compared(manifest, elsewhere)) == {("missing", b"link", None), ("missing", b"pipe", None)}


def test_what_somebody_has_put_under_data_is_new_there_also_where_the_manifest_lists_such_a_link(
    source: Path, tmp_path: Path
) -> None:
    """As `verify` finds it: a vault never makes one."""
    (source / "link").symlink_to("a")
    os.mkfifo(source / "pipe")
    manifest = write_manifest(tmp_path / "manifest.jsonl", source)
    data = tmp_path / "data"
    shutil.copytree(source, data, symlinks=True, ignore=shutil.ignore_patterns("pipe"))
    os.mkfifo(data / "pipe")
    assert compared(manifest, source).exit_code == ExitCode.COMPLETE
    outcome = compared(manifest, data)
    assert told(outcome) == {("new", b"link", None), ("new", b"pipe", None)}
    assert (outcome.exit_code, outcome.absent_by_design) == (ExitCode.MISSING_OR_EXTRA, 0)


def test_a_file_larger_than_all_that_is_listed_is_told_and_not_read(source: Path, manifest: Path) -> None:
    """Else a hole of many TiB, which costs nothing to make, would be read for days."""
    os.truncate(source / "a", 1 << 43)
    (source / "another").touch()
    os.truncate(source / "another", 1 << 43)
    outcome = compared(manifest, source, all_digests=True)
    assert told(outcome) == {("modified", b"a", None), ("new", b"another", None)}
    assert outcome.exit_code == ExitCode.DIGEST
    assert outcome.bytes < 100
    assert f"{1 << 43} bytes, more than all that is listed" in next(one.detail for one in outcome.differences if one.path == b"a")


def test_metadata_is_counted_and_only_judged_where_that_is_wanted(source: Path, tmp_path: Path) -> None:
    os.link(source / "b", source / "b-linked")
    manifest = write_manifest(tmp_path / "manifest.jsonl", source)
    (source / "b-linked").unlink()
    shutil.copy2(source / "b", source / "b-linked")
    (source / "a").chmod(0o600)
    os.utime(source / "in" / "deep", ns=(5, 5))
    is_root = os.geteuid() == 0
    if is_root:  # nobody else can give a folder away
        os.chown(source / "empty", 12345, -1)
    write(source / "same-1", "other")  # what has other content has no difference in metadata alone
    (source / "same-1").chmod(0o600)
    counted = compared(manifest, source)
    assert dict(counted.metadata or {}) == {"mode": 1, "owner": int(is_root), "time": 2, "links": 2, "attributes": 0}  # `.`, too
    assert told(counted) == {("modified", b"same-1", None)}
    judged = compared(manifest, source, metadata=True)
    assert judged.exit_code == ExitCode.DIGEST
    named = {one.path: one.detail for one in judged.differences if one.category is Category.METADATA}
    owner = {b"empty": "owner"} if is_root else {}
    assert named == owner | {b"": "time", b"a": "mode", b"in/deep": "time", b"b": "links", b"b-linked": "links"}
    assert judged.files[Category.MATCHED] == 6
    write(source / "same-1", "same")
    only_metadata = compared(manifest, source)
    assert (only_metadata.exit_code, only_metadata.files[Category.METADATA]) == (ExitCode.COMPLETE, 5 + is_root)


@pytest.mark.parametrize("kept", ["a-2", "in/a-3"])
def test_links_that_a_filter_left_out_or_that_lie_elsewhere_are_not_missed_in_a_copy(
    source: Path, tmp_path: Path, kept: str
) -> None:
    """Of five links to one inode the manifest lists two: a good copy has these two, and the source has all."""
    for name in ("a-2", "in/a-3", "out/a-4", "out/a-5"):
        (source / name).parent.mkdir(exist_ok=True)
        os.link(source / "a", source / name)
    os.link(source / "b", tmp_path / "outside")
    rules = FilterRules.from_patterns(["out", "a-2" if kept == "in/a-3" else "a-3"])
    manifest = write_manifest(tmp_path / "manifest.jsonl", source, rules=rules)

    def judged(folder: Path) -> dict[bytes, str]:
        return {one.path: one.detail for one in compared(manifest, folder, metadata=True).differences if one.listed is None}

    assert "links" not in str(judged(source))
    copy = tmp_path / "copy"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("out", "a-*"))
    os.link(copy / "a", copy / kept)
    shutil.copystat(source, copy)
    shutil.copystat(source / "in", copy / "in")
    assert "links" not in str(judged(copy))
    (copy / kept).unlink()
    shutil.copy2(copy / "a", copy / kept)  # what the manifest says to be one file is two
    assert {b"a", os.fsencode(kept)} == {path for path, detail in judged(copy).items() if "links" in detail}
    (copy / kept).unlink()
    for name in (kept, *(f"more-{number}" for number in range(4))):  # six, and the source had five
        os.link(copy / "a", copy / name)
    assert {b"a", os.fsencode(kept)} == {path for path, detail in judged(copy).items() if "links" in detail}


def test_more_linked_files_than_are_counted_are_neither_good_nor_bad(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_file, "AT_ONCE", 1)
    for name in ("a", "b"):
        os.link(source / name, source / f"{name}-2")
    manifest = write_manifest(tmp_path / "manifest.jsonl", source)
    assert compared(manifest, source, metadata=True).exit_code == ExitCode.COMPLETE
    (source / "a-2").unlink()
    shutil.copy2(source / "a", source / "a-2")
    assert dict(compared(manifest, source).metadata or {})["links"] == 0
    with pytest.raises(IncompleteError, match="links cannot be compared"):
        compared(manifest, source, metadata=True)


def test_extended_attributes_are_judged_also_where_the_manifest_needs_several_lines(source: Path, tmp_path: Path) -> None:
    try:
        for number in range(30):
            os.setxattr(source / "a", f"user.long-{number:03}", bytes(100))
        os.setxattr(source / "b", "user.some", b"value")
    except OSError:
        pytest.skip("only where the system has attributes")
    manifest = write_manifest(tmp_path / "manifest.jsonl", source)
    assert compared(manifest, source, metadata=True).exit_code == ExitCode.COMPLETE
    os.setxattr(source / "a", "user.long-029", b"other")
    os.removexattr(source / "b", "user.some")
    os.setxattr(source / "same-1", "user.more", b"")
    outcome = compared(manifest, source, metadata=True)
    assert told(outcome) == {("metadata", b"a", None), ("metadata", b"b", None), ("metadata", b"same-1", None)}
    assert compared(manifest, source).exit_code == ExitCode.COMPLETE


def test_a_single_file_may_be_named_through_a_link_to_its_folder(source: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "manifest.jsonl", source / "a")
    (tmp_path / "link").symlink_to(source)
    assert compared(manifest, tmp_path / "link" / "a", metadata=True).exit_code == ExitCode.COMPLETE
    write(source / "a", "other")
    assert compared(manifest, tmp_path / "link" / "a").exit_code == ExitCode.DIGEST


def test_what_was_left_out_at_the_source_is_counted_as_not_compared(source: Path, tmp_path: Path) -> None:
    write(source / "left-out" / "x", "x")
    manifest = write_manifest(tmp_path / "manifest.jsonl", source, rules=FilterRules.from_patterns(["left-out", "b"]))
    outcome = compared(manifest, source)
    assert outcome.exit_code == ExitCode.COMPLETE
    assert (outcome.files[Category.NOT_COMPARED], outcome.others[Category.NOT_COMPARED]) == (2, 1)
    shutil.rmtree(source / "left-out")
    (source / "b").unlink()
    assert compared(manifest, source).exit_code == ExitCode.COMPLETE


def test_what_was_unreadable_at_the_source_and_is_there_never_passes_as_the_same(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: bytes, flags: int, dir_fd: int) -> tuple[int, bool]:
        if name == b"b":
            raise PermissionError(13, "Permission denied")
        return open_untouched(name, flags, dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(reader, "open_untouched", refuse)
        manifest = write_manifest(tmp_path / "manifest.jsonl", source)
    outcome = compared(manifest, source)
    assert (told(outcome), outcome.exit_code) == ({("unreadable", b"b", None)}, ExitCode.GAPS)
    assert outcome.differences[0].detail == "listed without content: unreadable at the source"
    (source / "b").unlink()
    without = compared(manifest, source)
    assert (without.exit_code, without.files[Category.NOT_COMPARED]) == (ExitCode.COMPLETE, 1)


def test_a_manifest_of_a_single_file_is_compared_with_the_file_or_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "in" / "disk.img", "image")
    manifest = write_manifest(tmp_path / "manifest.jsonl", tmp_path / "in" / "disk.img")
    for folder in (tmp_path / "in", tmp_path / "in" / "disk.img"):
        outcome = compared(manifest, folder)
        assert (outcome.exit_code, outcome.files[Category.MATCHED], outcome.differences) == (ExitCode.COMPLETE, 1, [])
    (tmp_path / "in" / "disk.img").rename(tmp_path / "in" / "other.img")
    assert told(compared(manifest, tmp_path / "in")) == {("moved", b"other.img", b"disk.img")}


@pytest.mark.slow
@pytest.mark.parametrize("all_digests", [False, True])
def test_large_sparse_files_and_many_small_ones_in_helper_processes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_digests: bool
) -> None:
    monkeypatch.setattr(file_checks, "_HELPERS_FROM", 100)
    source = tmp_path / "source"
    for number in range(600):
        write(source / f"{number:03}", b"%d" % number)
    with (source / "sparse").open("wb") as file:
        file.write(b"begin")
        file.truncate(100 << 20)
    write(source / "large", os.urandom(9 << 20))
    manifest = write_manifest(tmp_path / "manifest.jsonl", source)
    assert compared(manifest, source, all_digests=all_digests).files[Category.MATCHED] == 602
    with (source / "sparse").open("r+b") as file:
        file.seek(50 << 20)
        file.write(b"x")
    (source / "large").rename(source / "larger")
    write(source / "599", "not that")
    write(source / "001", "0")
    assert told(compared(manifest, source, all_digests=all_digests)) == {
        ("modified", b"sparse", None),
        ("moved", b"larger", b"large"),
        ("modified", b"599", None),
        ("modified", b"001", b"000"),
    }


def test_content_whose_sha256_alone_differs_is_found_with_all_digests(source: Path, manifest: Path) -> None:
    lines = manifest.read_bytes()
    start = lines.index(b'"sha256":"', lines.index(b'"path":"a"')) + 10
    manifest.write_bytes(lines[:start] + b"0" * 64 + lines[start + 64 :])
    assert compared(manifest, source).exit_code == ExitCode.COMPLETE
    assert told(compared(manifest, source, all_digests=True)) == {("modified", b"a", None)}


@pytest.mark.parametrize("how", ["open", "stat", "read"])
@pytest.mark.parametrize("what", ["source", "manifest.jsonl", "manifest.jsonl.sig"])
def test_a_folder_or_a_manifest_that_cannot_be_read_at_all_is_incomplete_and_named(
    source: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch, what: str, how: str
) -> None:
    """Not a wrong name, and nothing is said of what is in it."""
    place = manifest.with_name(what)
    if not place.exists():
        place.write_bytes(b"a signature")
    Unreadable(monkeypatch, place, how)
    trusted = signer_line("ana", new_signer().public_key, ("manifest@evidencesync",)).encode() if what.endswith(".sig") else None
    if (what, how) == ("source", "read"):
        outcome = compared(manifest, source)
        assert outcome.exit_code == ExitCode.GAPS
        assert {category for category, _, _ in told(outcome)} == {"unreadable"}
        return
    with pytest.raises(EvidenceSyncError, match=what) as refused:
        compared(manifest, source, trusted=trusted)
    assert refused.value.exit_code == ExitCode.GAPS, refused.value


@pytest.mark.parametrize("call", ["lstat", "open"])
@pytest.mark.parametrize("name", [b"a", b"in"])
def test_what_a_server_calls_stale_is_unreadable_and_not_missing(
    source: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch, name: bytes, call: str
) -> None:
    real = getattr(os, call)

    def stale(path: object, *arguments: object, **options: object) -> object:
        if path == name:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, call, stale)
    outcome = compared(manifest, source)
    assert outcome.exit_code == ExitCode.GAPS
    assert ("unreadable", name, None) in told(outcome)
    assert {category for category, _, _ in told(outcome)} == {"unreadable"}


def test_what_cannot_be_read_is_unreadable_and_what_lies_in_it_is_not_called_missing(
    source: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything: so a folder is nested too deep for the walk, which it then cannot list in full."""
    from evidencesync.source import walker

    monkeypatch.setattr(walker, "MAX_DEPTH", 1)
    outcome = compared(manifest, source)
    assert told(outcome) == {("unreadable", b"in", None), ("unreadable", b"in/deep", None)}
    assert outcome.exit_code == ExitCode.GAPS
    (source / "b").unlink()
    write(source / "b" / "x", "in a folder that took the name of a file, and cannot be read")
    outcome = compared(manifest, source)
    assert ("modified", b"b", None) in told(outcome)
    assert outcome.exit_code == ExitCode.DIGEST


def test_a_file_that_goes_while_it_is_compared_is_missing(source: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = entry.FolderHasher.add

    def add_and_remove(self: entry.FolderHasher, file: object) -> None:
        add(self, file)  # type: ignore[arg-type]
        (source / "b").unlink(missing_ok=True)

    monkeypatch.setattr(entry.FolderHasher, "add", add_and_remove)
    outcome = compared(manifest, source)
    assert told(outcome) == {("missing", b"b", None)}
    assert (outcome.listed, outcome.found) == (6, 5)


def test_a_file_that_comes_while_its_folder_is_compared_does_not_go_by_unnoticed(
    source: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = entry.FolderHasher.add

    def add_and_plant(self: entry.FolderHasher, file: object) -> None:
        add(self, file)  # type: ignore[arg-type]
        write(source / "0", "planted where the walk has been")

    monkeypatch.setattr(entry.FolderHasher, "add", add_and_plant)
    outcome = compared(manifest, source)
    assert (outcome.differences, outcome.changed_folders, outcome.exit_code) == ([], 1, ExitCode.SOURCE_CHANGED)


def test_no_more_differences_are_listed_than_can_be_told_and_all_are_counted(
    source: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        write(source / f"new-{number:02}", f"new {number}")
    monkeypatch.setattr(store, "MAX_FINDINGS", 5)
    outcome = compared(manifest, source)
    assert [one.path for one in outcome.differences] == [b"new-%02d" % number for number in range(5)]
    assert (outcome.left_out, outcome.files[Category.NEW]) == (15, 20)
    monkeypatch.setattr(store, "MAX_LISTED_PATHS", 15)
    assert compared(manifest, source).left_out == 18


def test_names_of_any_bytes_are_compared_byte_by_byte(source: Path, tmp_path: Path) -> None:
    names = [b"\xff\n\x1b[31m", b"a\xcc\x88", b"\xc3\xa4", b"-rf", b"a b", b"a\\n"]
    for number, name in enumerate(names):
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_bytes(b"%d" % number)
    manifest = write_manifest(tmp_path / "manifest.jsonl", source)
    assert compared(manifest, source).exit_code == ExitCode.COMPLETE
    Path(os.fsdecode(os.fsencode(source) + b"/" + names[1])).unlink()  # what stays looks the same to a person
    assert told(compared(manifest, source)) == {("missing", names[1], None)}


# --- The manifest ------------------------------------------------------------------------------------------------------


def test_a_signature_by_a_trusted_signer_vouches_for_the_manifest(source: Path, tmp_path: Path) -> None:
    signer = new_signer()
    manifest = write_manifest(tmp_path / "manifest.jsonl", source, signer)
    trusted = signer_line("ana@lab", signer.public_key, ("manifest@evidencesync",)).encode()
    facts = compared(manifest, source, trusted=trusted).facts
    assert (facts.signer, facts.key) == ("ana@lab", signer.public_key.fingerprint)
    assert compared(manifest, source).facts.signer is None


def test_no_manifest_is_used_whose_signature_is_not_by_a_trusted_signer(source: Path, tmp_path: Path) -> None:
    signer, other = new_signer(), new_signer()
    manifest = write_manifest(tmp_path / "manifest.jsonl", source, signer)
    good = signer_line("ana@lab", signer.public_key, ("manifest@evidencesync",)).encode()
    refused = [
        signer_line("ana@lab", other.public_key, ("manifest@evidencesync",)).encode(),  # another key
        signer_line("ana@lab", signer.public_key, ("receipt@evidencesync",)).encode(),  # for something else
        signer_line("eve@lab", signer.public_key, ("manifest@evidencesync",)).encode(),  # another name
        b"",
    ]
    for trusted in refused:
        with pytest.raises(SignatureError):
            compared(manifest, source, trusted=trusted)
    retired = signer_line("ana@lab", signer.public_key, ("manifest@evidencesync",), None, 10**18).encode()
    with pytest.raises(IncompleteError):
        compared(manifest, source, trusted=retired)
    manifest.write_bytes(manifest.read_bytes().replace(b'"host":"laptop"', b'"host":"desktop"'))
    with pytest.raises(SignatureError):
        compared(manifest, source, trusted=good)
    (tmp_path / "manifest.jsonl.sig").unlink()
    with pytest.raises(SignatureError, match="missing"):
        compared(manifest, source, trusted=good)


def test_the_key_that_signed_must_be_the_one_that_the_manifest_names(source: Path, tmp_path: Path) -> None:
    signer = new_signer()
    manifest = write_manifest(tmp_path / "manifest.jsonl", source, signer)
    named = new_signer().public_key.fingerprint
    forged = manifest.read_bytes().replace(signer.public_key.fingerprint.encode(), named.encode())
    from evidencesync.custody.sshsig import sign_document
    from evidencesync.evidence.digest import sha512_of

    manifest.write_bytes(forged)
    (tmp_path / "manifest.jsonl.sig").write_bytes(sign_document(signer, "manifest@evidencesync", sha512_of(forged)))
    trusted = signer_line("ana@lab", signer.public_key, ("manifest@evidencesync",)).encode()
    with pytest.raises(SignatureError, match="names the key"):
        compared(manifest, source, trusted=trusted)


def test_a_manifest_that_is_not_in_its_one_form_is_refused(source: Path, manifest: Path) -> None:
    good = manifest.read_bytes()
    lines = good.splitlines(keepends=True)
    broken = [
        b"",
        b"not a manifest\n",
        good[:-1],
        b"".join(lines[:-1]),
        b"".join([*lines[:2], *lines[3:]]),
        b"".join([lines[0], lines[1], lines[3], lines[2], *lines[4:]]),
        good.replace(b'"path":"a"', b'"path":"../a"'),
        good.replace(b'"path":"a"', b'"path": "a"'),
        good + lines[-1],
    ]
    for data in broken:
        manifest.write_bytes(data)
        with pytest.raises(EvidenceSyncError) as refused:
            compared(manifest, source)
        assert refused.value.exit_code in (ExitCode.SIGNATURE, ExitCode.PEER)


def test_a_manifest_that_changes_between_two_readings_is_refused(
    source: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(source / "news", "news")  # so that it is read twice
    add = entry.FolderHasher.finish

    def finish_and_change(self: entry.FolderHasher) -> None:
        add(self)
        manifest.write_bytes(manifest.read_bytes().replace(b'"host":"laptop"', b'"host":"leptop"'))

    monkeypatch.setattr(entry.FolderHasher, "finish", finish_and_change)
    with pytest.raises(MalformedDocumentError, match="changed while it was read"):
        compared(manifest, source)


def test_what_is_no_manifest_or_no_folder_is_said_without_waiting(source: Path, manifest: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for wrong in (tmp_path / "none", tmp_path / "pipe", source):
        with pytest.raises(UsageError):
            compared(wrong, source)
    for wrong in (tmp_path / "none", tmp_path / "pipe"):
        with pytest.raises(UsageError):
            compared(manifest, wrong)
