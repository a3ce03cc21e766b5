"""What a false manifest, or a file system with ideas of its own, can do to a working copy: nothing outside it, nothing unseen."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from evidencesync.custody.manifest import WholeEntry
from evidencesync.errors import DigestMismatchError, NameClashError, NotThereError, PathEscapeError, StorageError, UsageError
from evidencesync.evidence.digest import blake3_of, sha256_of
from evidencesync.evidence.entry import Entry, ReadError
from evidencesync.exit_codes import ExitCode
from evidencesync.files.kept_names import KeptNames
from evidencesync.restore.contents import VaultContents
from evidencesync.restore.metadata import MetadataApplier, MetadataOptions
from evidencesync.restore.refusals import NAMED_OF_EACH, Refusals
from evidencesync.restore.restore import open_draft
from evidencesync.restore.tree import HardLinkTargets, TreeMaker
from evidencesync.restore.wanted import PathSelection
from evidencesync.vault.tree import TreeReader

ROOT = WholeEntry(b"", Entry("directory", ""), None)


class Bench:
    """A folder `data` with evidence, and a folder `copy` that a maker and a dresser work in."""

    def __init__(self, folder: Path) -> None:
        self.data, self.copy = folder / "data", folder / "copy"
        self.data.mkdir()
        self.copy.mkdir()
        self.refusals = Refusals()
        self.fd = os.open(self.copy, os.O_RDONLY)
        self.reader = TreeReader(os.open(self.data, os.O_RDONLY))
        self.contents = VaultContents(self.reader)
        self.maker = TreeMaker((self.fd, KeptNames()), self.contents, self.refusals, devices=True, on_damage="fail")

    def file(self, path: str, data: bytes = b"data", **fields: object) -> WholeEntry:
        (self.data / path).parent.mkdir(parents=True, exist_ok=True)
        (self.data / path).write_bytes(data)
        digests = {"size": len(data), "blake3": blake3_of(data).hex(), "sha256": sha256_of(data).hex()}
        return WholeEntry(path.encode(), Entry("file", path, **digests, **fields), None)  # type: ignore[arg-type]

    def make(self, *entries: WholeEntry) -> None:
        for whole in entries:
            self.maker.make(whole, lambda *_: None)

    def apply(self, *entries: WholeEntry, how: MetadataOptions | None = None) -> None:
        applier = MetadataApplier(self.fd, self.refusals, self.maker.links, how or MetadataOptions())
        for whole in (ROOT, *entries):
            applier.apply(whole, self.maker.absent)
        applier.finish()
        applier.close()

    def close(self) -> None:
        self.maker.close()
        self.reader.close()
        os.close(self.fd)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_what_has_the_name_already_is_not_touched(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    (bench.copy / "a").symlink_to(tmp_path / "outside")
    (bench.copy / "d").symlink_to(tmp_path)
    for whole in (
        bench.file("a"),
        WholeEntry(b"a", Entry("symlink", "a", target="x"), None),
        WholeEntry(b"d", Entry("directory", "d"), None),
        WholeEntry(b"a", Entry("fifo", "a"), None),
    ):
        with pytest.raises(NameClashError):
            bench.make(whole)
    assert (tmp_path / "outside").read_bytes() == b"mine"


def test_no_symbolic_link_is_followed_on_the_way_to_an_entry(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    bench.make(WholeEntry(b"link", Entry("symlink", "link", target=str(tmp_path / "outside")), None))
    below = bench.file("link/x")
    with pytest.raises(Exception, match="could not make") as error:
        bench.make(below)
    assert error.value.__class__.__name__ == "StorageError"
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize("path", [b"../x", b"/etc/x", b"a/../../x", b"a//x", b".", b"a/.."])
def test_a_path_that_leads_out_is_refused(bench: Bench, path: bytes) -> None:
    (bench.copy / "a").mkdir()
    with pytest.raises(PathEscapeError):
        bench.make(WholeEntry(path, Entry("fifo", "x"), None))


def test_a_false_hard_link_does_not_make_one_file_look_like_another(bench: Bench) -> None:
    first = bench.file("first", b"first", links=2)
    false = bench.file("second", b"other", links=2, hardlink_to="first")
    bench.make(ROOT, first, false)
    assert (bench.copy / "second").read_bytes() == b"other"
    assert (bench.copy / "first").stat().st_nlink == 1


def test_where_the_first_name_is_not_wanted_the_next_takes_its_place() -> None:
    links = HardLinkTargets()
    entry = Entry("file", "b", links=3, hardlink_to="a")
    assert [links.target_of(path, entry) for path in (b"b", b"c", b"d")] == [None, b"b", b"b"]


def test_impossible_metadata_is_listed_and_stops_nothing(bench: Bench) -> None:
    many = {"user.x": "eA==", "system.posix_acl_access": base64.b64encode(b"nonsense").decode(), "nothing.known": "eA=="}
    one = bench.file("one", mode="0640", uid=2**32 - 1, gid=2**40, mtime="99999999999999999999.000000000", links=1)
    odd = WholeEntry(b"socket", Entry("socket", "socket", mode="0600", mtime="1.000000000"), None)
    empty = WholeEntry(b"to nothing", Entry("symlink", "to nothing", target=""), None)
    bench.make(ROOT, one, odd, empty)
    bench.apply(one._replace(attributes=many), odd)
    assert (bench.copy / "one").read_bytes() == b"data"
    assert (bench.copy / "one").stat().st_mode & 0o7777 == 0o640
    assert (bench.copy / "one").stat().st_uid == os.geteuid()
    assert {"owner", "times", "attribute", "not-possible"} == bench.refusals.counts.keys()
    assert bench.refusals.counts["attribute"] == 2


def test_a_name_that_was_stored_otherwise_is_noticed(bench: Bench) -> None:
    one = bench.file("dir/name.")
    folder = WholeEntry(b"dir", Entry("directory", "dir"), None)
    bench.make(ROOT, folder, one)
    (bench.copy / "dir" / "name.").rename(bench.copy / "dir" / "name")
    links = bench.file("dir/other")
    bench.make(links)
    applier = MetadataApplier(bench.fd, bench.refusals, bench.maker.links, MetadataOptions())
    applier.apply(folder, set())
    applier.apply(one, set())
    applier.finish()
    applier.close()
    assert [(one.lack, one.path) for one in bench.refusals.named] == [("not-possible", b"dir/name.")]


def test_what_lies_in_a_folder_that_cannot_be_made_is_counted(bench: Bench) -> None:
    long = "n" * 200 + "é" * 100
    folder = WholeEntry(long.encode()[:255] + b"x" * 10, Entry("directory", "x"), None)
    inside = WholeEntry(folder.path + b"/in", Entry("fifo", "x"), None)
    bench.make(ROOT, folder, inside, WholeEntry(b"z", Entry("fifo", "z"), None))
    assert bench.refusals.counts == {"not-possible": 2}
    assert os.listdir(bench.copy) == ["z"]


def test_damage_that_is_not_to_be_skipped_stops(bench: Bench) -> None:
    whole = bench.file("bad", b"good")
    (bench.data / "bad").write_bytes(b"evil")
    with pytest.raises(DigestMismatchError):
        bench.make(ROOT, whole)
    assert os.listdir(bench.copy) == []


def test_refusals_are_counted_and_only_some_are_named() -> None:
    refusals = Refusals()
    for number in range(NAMED_OF_EACH + 10):
        refusals.add("owner", b"%d" % number, "")
    assert (refusals.counts["owner"], len(refusals.named)) == (NAMED_OF_EACH + 10, NAMED_OF_EACH)


def test_a_selection_takes_what_is_named_what_is_in_it_and_what_leads_to_it() -> None:
    walk = [b"", b"a", b"a/b", b"a/b/c", b"a/b/d", b"a/e", b"a.txt", b"b", b"b/x"]
    assert [path for path in walk if PathSelection([]).takes(path)] == walk
    assert [path for path in walk if PathSelection([b"."]).takes(path)] == walk
    chosen = PathSelection([b"a/b", b"a/b/d", b"./b/x/"])
    assert [path for path in walk if chosen.takes(path)] == [b"", b"a", b"a/b", b"a/b/c", b"a/b/d", b"b", b"b/x"]
    chosen.check_found()
    missing = PathSelection([b"a/none"])
    assert [path for path in walk if missing.takes(path)] == [b"", b"a"]
    with pytest.raises(NotThereError):
        missing.check_found()
    for wrong in (b"", b"/a", b"a/../b", b"../a", b"a\0b"):
        with pytest.raises(UsageError):
            PathSelection([wrong])


def test_a_draft_is_gone_after_an_error_however_protected(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    with pytest.raises(KeyboardInterrupt), open_draft(os.fsencode(tmp_path / "copy"), tmp_path / "vault") as draft:
        os.mkdir("closed", dir_fd=draft.fd)
        os.mkdir("closed/in", dir_fd=draft.fd)
        os.chmod("closed", 0, dir_fd=draft.fd)
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["vault"]


def test_the_draft_of_a_restore_that_was_killed_is_removed_by_the_next_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    left = tmp_path / ".evidencesync-restore-0123456789abcdef"
    (left / "closed").mkdir(parents=True)
    (left / "closed" / "file").write_bytes(b"half")
    (left / "closed").chmod(0o500)
    said: list[str] = []
    with open_draft(os.fsencode(tmp_path / "copy"), tmp_path / "vault", said.append) as draft:
        assert not left.exists()
        with open_draft(os.fsencode(tmp_path / "other"), tmp_path / "vault", said.append) as other:
            other.publish()
        draft.publish()
    assert said == [f"removed what a restore that was killed had left: {left}"]
    assert sorted(os.listdir(tmp_path)) == ["copy", "other", "vault"]


@pytest.mark.parametrize(("code", "is_made"), [(errno.EPERM, True), (errno.ENOSYS, True), (errno.EIO, False)])
def test_a_file_system_without_modes_holds_a_working_copy(
    code: int, is_made: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vault").mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    made = False
    with monkeypatch.context() as patch, contextlib.suppress(StorageError):
        patch.setattr(os, "fchmod", refuse)
        with open_draft(os.fsencode(tmp_path / "copy"), tmp_path / "vault") as draft:
            draft.publish()
            made = True
    assert made == is_made
    assert sorted(os.listdir(tmp_path)) == (["copy", "vault"] if is_made else ["vault"])


def test_a_place_that_was_filled_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    with pytest.raises(Exception, match="could not put"), open_draft(os.fsencode(tmp_path / "copy"), tmp_path / "vault") as draft:
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "mine").write_bytes(b"mine")
        draft.publish()
    assert (tmp_path / "copy" / "mine").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["copy", "vault"]


def test_an_image_of_a_device_is_a_file_and_what_could_not_be_read_of_it_is_said(bench: Bench) -> None:
    plain = bench.file("sdb.img", b"\0" * 4096)
    entry = msgspec.structs.replace(plain.entry, type="block-device", mode="0660", read_errors=[ReadError(512, 512, 5, "zero")])
    bench.make(plain._replace(entry=entry))
    assert (bench.copy / "sdb.img").read_bytes() == b"\0" * 4096
    assert bench.refusals.counts == {"bad-bytes": 1}
    assert bench.refusals.exit_code is ExitCode.GAPS


def test_a_name_that_the_file_system_would_change_is_listed_and_not_made(bench: Bench) -> None:
    maker = TreeMaker((bench.fd, KeptNames(letters=False)), bench.contents, bench.refusals, devices=False, on_damage="fail")
    for whole in (bench.file("Notes"), WholeEntry(b"Sub", Entry("directory", "Sub"), None), bench.file("Sub/x"), bench.file("y")):
        maker.make(whole, lambda *_: None)
    maker.close()
    assert os.listdir(bench.copy) == ["y"]
    assert (bench.refusals.counts, bench.refusals.exit_code) == ({"not-possible": 3}, ExitCode.GAPS)


def test_only_what_is_asked_for_becomes_a_device(bench: Bench) -> None:
    node = WholeEntry(b"null", Entry("character-device", "null", device_number="1:3"), None)
    careful = TreeMaker((bench.fd, KeptNames()), bench.contents, bench.refusals, devices=False, on_damage="fail")
    careful.make(node, lambda *_: None)
    careful.close()
    assert (os.listdir(bench.copy), bench.refusals.counts) == ([], {"device": 1})
    bench.make(WholeEntry(b"huge", Entry("block-device", "huge", device_number="4294967295:9999999999"), None))
    assert (os.listdir(bench.copy), bench.refusals.counts["not-possible"]) == ([], 1)


def test_a_folder_that_nobody_looked_into_is_said_to_lack_what_is_in_it(bench: Bench) -> None:
    bench.make(
        ROOT,
        WholeEntry(b"closed", Entry("directory", "closed", flags=["unreadable"]), None),
        WholeEntry(b"left", Entry("directory", "left", flags=["skipped"]), None),
        WholeEntry(b"whole", Entry("directory", "whole"), None),
    )
    assert sorted(os.listdir(bench.copy)) == ["closed", "left", "whole"]
    assert [(one.lack, one.path) for one in bench.refusals.named] == [("not-acquired", b"closed"), ("skipped", b"left")]
    assert bench.maker.absent == set()


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        (b"*.pdf", "It has docs/a.pdf, docs/b.pdf. "),
        (b"docs/**", "It has docs/a.pdf, docs/b.pdf, docs/deep. "),
        (b"NOTES.txt", "It has docs/deep/notes.txt. "),
        (b"docs/depe", "It has docs/deep. "),
        (b"docs/\x1b[a]*", ""),
        (b"nothing", ""),
    ],
)
def test_a_path_that_is_not_there_is_refused_with_paths_that_may_have_been_meant(asked: bytes, near: str) -> None:
    selection = PathSelection([asked])
    for path in (b"", b"docs", b"docs/a.pdf", b"docs/b.pdf", b"docs/deep", b"docs/deep/notes.txt"):
        selection.takes(path)
    with pytest.raises(NotThereError) as caught:
        selection.check_found()
    assert (caught.value.hint or "").startswith(f"{near}A path is exact")


def test_what_may_have_been_meant_is_looked_for_by_the_path_that_is_not_there_alone() -> None:
    selection = PathSelection([b"a/notes", b"zzz"])
    for path in (b"", b"a", b"a/notes", b"b", b"b/notes"):
        selection.takes(path)
    with pytest.raises(NotThereError) as caught:
        selection.check_found()
    assert "It has" not in (caught.value.hint or "")
