"""A restore from a far vault: the copy is what was acquired, and no more travels than has to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evidencesync.acquire import evidence
from evidencesync.connection.limited_link import LimitedLink
from evidencesync.connection.link import Link, LocalLink
from evidencesync.errors import DigestMismatchError, LinkLostError, MissingOrExtraError, NotThereError, VersionError
from evidencesync.exit_codes import ExitCode
from evidencesync.limits import KIB, MIB
from evidencesync.protocol.evidence_messages import EvidenceAsk, PatchAsk
from evidencesync.protocol.messages import ASKING_VERSION, PATCH_VERSION, VERSIONS, Message
from tests.corpus.lister import differences, list_folder
from tests.support.bench_of_evidence import Bench, copy_of, make_bench
from tests.support.far_restore import restore_far
from tests.support.link_in_between import LinkInBetween

NOT_SETTABLE = ("ctime", "btime", "inode", "device", "atime")
LARGE = 5 * MIB + 12_345


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Something of everything that matters for what travels."""
    made = make_bench(tmp_path_factory.mktemp("template"))
    source = made.source
    (source / "folder" / "below").mkdir(parents=True)
    (source / "empty folder").mkdir()
    (source / "empty").write_bytes(b"")
    (source / "small").write_bytes(b"small evidence" * 100)
    (source / "folder" / "large").write_bytes(os.urandom(LARGE))
    (source / "folder" / "same as large").write_bytes((source / "folder" / "large").read_bytes())
    (source / "folder" / "below" / "one chunk").write_bytes(os.urandom(140_000))
    os.link(source / "folder" / "large", source / "linked")
    (source / "link").symlink_to("folder/large")
    with (source / "sparse").open("wb") as file:
        file.write(os.urandom(MIB))
        file.seek(20 * MIB)
        file.write(os.urandom(MIB))
        file.truncate(30 * MIB)
    (source / "small").chmod(0o640)
    os.setxattr(source / "small", "user.note", b"kept")
    os.utime(source / "small", ns=(1, 1_234_567_890_123_456_789))
    os.utime(source / "folder", ns=(1, 987_654_321_000_000_000))
    made.push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def same(bench: Bench, copy: Path) -> bool:
    return differences(list_folder(bench.source), list_folder(copy), NOT_SETTABLE) == []


def test_the_copy_is_what_was_acquired_and_each_content_travels_once(bench: Bench, tmp_path: Path) -> None:
    done = restore_far(bench, tmp_path / "copy")
    assert differences(list_folder(bench.source), list_folder(tmp_path / "copy"), NOT_SETTABLE) == []
    assert done.counts.received == 1400 + LARGE + 140_000 + 2 * MIB
    assert done.counts.basis == 0
    assert (tmp_path / "copy" / "sparse").stat().st_blocks * 512 < 4 * MIB
    assert (tmp_path / "copy" / "linked").stat().st_ino == (tmp_path / "copy" / "folder" / "large").stat().st_ino
    assert done.restored.refusals.exit_code is ExitCode.COMPLETE
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".evidencesync")]


def test_what_is_shown_of_a_sparse_image_counts_its_holes_apart_and_what_has_travelled(bench: Bench, tmp_path: Path) -> None:
    done = restore_far(bench, tmp_path / "copy", paths=(b"sparse",))
    progress = done.progress
    assert (progress.total_data_bytes, progress.total_hole_bytes) == (2 * MIB, 28 * MIB)
    assert progress.hole_bytes == progress.total_hole_bytes
    assert done.counts.received == done.stream.received == 2 * MIB
    assert 2 * MIB < done.counts.wire_received < 3 * MIB


def test_with_a_limited_rate_little_is_asked_for_at_once(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for comes as fast as the line can, whatever is read a second: so it must not be megabytes."""
    held: list[int] = []
    ask, made = evidence.EvidenceStream.ask, evidence.EvidenceStream.__init__

    def limited(self: evidence.EvidenceStream, *given: Any) -> None:
        made(self, *given)
        self.limit_ahead(100_000)

    def noted(self: evidence.EvidenceStream, part: evidence.FilePart) -> None:
        ask(self, part)
        held.append(self._held)

    monkeypatch.setattr(evidence.EvidenceStream, "__init__", limited)
    monkeypatch.setattr(evidence.EvidenceStream, "ask", noted)
    restore_far(bench, tmp_path / "copy", connect=lambda: LimitedLink(bench.serve()[0], 1 << 30))
    assert same(bench, tmp_path / "copy")
    assert 256 * KIB < max(held) < 700 * KIB


def test_of_single_paths_only_their_bytes_travel(bench: Bench, tmp_path: Path) -> None:
    done = restore_far(bench, tmp_path / "copy", paths=(b"small", b"folder/below"))
    assert done.counts.received == 1400 + 140_000
    assert sorted(os.listdir(tmp_path / "copy")) == ["folder", "small"]


def test_a_path_that_is_not_there_is_said_before_anything_is_asked_for(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(NotThereError):
        restore_far(bench, tmp_path / "copy", paths=(b"no such",))
    assert not (tmp_path / "copy").exists()


def test_many_files_are_asked_for_ahead(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1500):
        (bench.source / f"file {number}").write_bytes(b"%d" % number)
    bench.push()
    sent: list[int] = []
    whole = EvidenceAsk

    def counting(*fields: object) -> Message:
        message = whole(*fields)  # type: ignore[arg-type]
        assert isinstance(message, EvidenceAsk)
        sent.append(len(message.parts))
        return message

    monkeypatch.setattr(evidence, "EvidenceAsk", counting)
    restore_far(bench, tmp_path / "copy", acquisition=2)
    assert same(bench, tmp_path / "copy")
    assert len(sent) < 20


# --- A basis -----------------------------------------------------------------------------------------------------------------


def test_what_a_basis_has_does_not_travel(bench: Bench, tmp_path: Path) -> None:
    restore_far(bench, tmp_path / "older")
    large = bytearray((bench.source / "folder" / "large").read_bytes())
    large[3 * MIB : 3 * MIB] = b"inserted"
    del large[MIB : MIB + 5000]
    (bench.source / "folder" / "large").write_bytes(large)
    (bench.source / "new").write_bytes(b"new")
    bench.push()
    done = restore_far(bench, tmp_path / "copy", acquisition=2, basis=tmp_path / "older")
    assert same(bench, tmp_path / "copy")
    assert 3 < done.counts.received < MIB
    assert done.counts.basis > LARGE + 140_000 + 1400 + MIB


def test_what_only_moved_is_found_by_its_content(bench: Bench, tmp_path: Path) -> None:
    (bench.source / "image").write_bytes(old := os.urandom(12 * MIB))
    bench.push()
    restore_far(bench, tmp_path / "older", acquisition=2)
    for number, new in enumerate((b"x" * 100_000 + old, old[70_000:], old[: 6 * MIB] + b"y" + old[6 * MIB :]), 3):
        (bench.source / "image").write_bytes(new)
        bench.push()
        done = restore_far(bench, tmp_path / f"copy{number}", acquisition=number, basis=tmp_path / "older", paths=(b"image",))
        assert (tmp_path / f"copy{number}" / "image").read_bytes() == new
        assert done.counts.received < 700_000


def test_what_was_not_written_in_this_acquisition_is_found_in_a_basis_too(bench: Bench, tmp_path: Path) -> None:
    """The second acquisition has links to the files of the first one, and no rows of chunks of them."""
    large = bytearray((bench.source / "folder" / "large").read_bytes())
    bench.push()
    restore_far(bench, tmp_path / "older", acquisition=2)
    large[2 * MIB] ^= 1
    (tmp_path / "older" / "folder" / "large").write_bytes(large)
    done = restore_far(bench, tmp_path / "copy", acquisition=2, basis=tmp_path / "older")
    assert same(bench, tmp_path / "copy")
    assert 0 < done.counts.received <= 256 * 1024


def edited(old: bytes) -> bytes:
    """Here and there another sector, something inserted, and something cut out."""
    new = bytearray(old)
    for at in range(MIB // 2, len(old), MIB):
        new[at : at + 512] = os.urandom(512)
    new[3 * MIB : 3 * MIB] = b"inserted"
    del new[2 * MIB : 2 * MIB + 100]
    return bytes(new)


def test_of_small_edits_only_pieces_travel(bench: Bench, tmp_path: Path) -> None:
    """Of a large file, and of a small one, whatever was inserted or cut out."""
    text = b"".join(b"line %d of a log\n" % number for number in range(6000))
    (bench.source / "image").write_bytes(old := os.urandom(8 * MIB))
    (bench.source / "log").write_bytes(text)
    bench.push()
    restore_far(bench, tmp_path / "older", acquisition=2)
    (bench.source / "image").write_bytes(edited(old))
    (bench.source / "log").write_bytes(text + b"one more\n")
    bench.push()
    done = restore_far(bench, tmp_path / "copy", acquisition=3, basis=tmp_path / "older")
    assert same(bench, tmp_path / "copy")
    assert done.counts.received < 10 * 6 * 1024, "some pieces of 1 KiB for each of ten edits; a chunk has 64"
    whole = sum((bench.source / name).stat().st_size for name in ("image", "log"))
    assert done.counts.basis > whole - 60 * 1024


def test_an_older_vault_is_asked_for_whole_chunks(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restore_far(bench, tmp_path / "older")
    old = (bench.source / "folder" / "large").read_bytes()
    (bench.source / "folder" / "large").write_bytes(new := edited(old))
    bench.push()
    monkeypatch.setattr("evidencesync.protocol.failures.VERSIONS", tuple(one for one in VERSIONS if one < PATCH_VERSION))
    done = restore_far(bench, tmp_path / "copy", acquisition=2, basis=tmp_path / "older", paths=(b"folder/large",))
    assert (tmp_path / "copy" / "folder" / "large").read_bytes() == new
    assert 4 * 16 * 1024 < done.counts.received < LARGE


def test_where_older_bytes_are_of_no_use_they_are_no_longer_named(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench.source / "folder" / "large").write_bytes(os.urandom(20 * MIB))
    bench.push()
    older = tmp_path / "older" / "folder"
    older.mkdir(parents=True)
    (older / "large").write_bytes(os.urandom(20 * MIB))
    named: list[int] = []
    whole = PatchAsk

    def counting(*fields: object) -> Message:
        named.append(1)
        return whole(*fields)  # type: ignore[arg-type]

    monkeypatch.setattr(evidence, "PatchAsk", counting)
    done = restore_far(bench, tmp_path / "copy", acquisition=2, basis=older.parent, paths=(b"folder/large",))
    assert (done.counts.received, done.counts.basis) == (20 * MIB, 0)
    assert 8 <= len(named) < 70  # of more than eighty; what was asked for ahead cannot be taken back


@pytest.mark.parametrize("trouble", ["link", "folder", "shorter", "fifo", "none"])
def test_a_basis_that_cannot_be_used_is_no_error(bench: Bench, tmp_path: Path, trouble: str) -> None:
    older = tmp_path / "older"
    (older / "folder").mkdir(parents=True)
    place = older / "folder" / "large"
    match trouble:
        case "link":
            place.symlink_to(bench.source / "folder" / "large")
        case "folder":
            place.mkdir()
        case "shorter":
            place.write_bytes((bench.source / "folder" / "large").read_bytes()[:100])
        case "fifo":
            os.mkfifo(place)
    done = restore_far(bench, tmp_path / "copy", basis=older, paths=(b"folder/large",))
    assert (tmp_path / "copy" / "folder" / "large").read_bytes() == (bench.source / "folder" / "large").read_bytes()
    assert (done.counts.received, done.counts.basis) == (LARGE, 0)


# --- Damage ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def writable(bench: Bench) -> Path:
    data = bench.acquisition(1) / "data"
    for path in data.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
    return data


def test_a_damaged_file_ends_the_restore_and_leaves_nothing(bench: Bench, tmp_path: Path, writable: Path) -> None:
    with (writable / "folder" / "large").open("r+b") as file:
        file.seek(4 * MIB)
        file.write(b"!")
    with pytest.raises(DigestMismatchError, match="folder/large"):
        restore_far(bench, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".evidencesync")]


def test_damaged_files_are_left_out_where_that_is_wanted(bench: Bench, tmp_path: Path, writable: Path) -> None:
    with (writable / "folder" / "large").open("r+b") as file:
        file.write(b"!")
    (writable / "small").unlink()
    os.truncate(writable / "folder" / "below" / "one chunk", 1000)
    done = restore_far(bench, tmp_path / "copy", on_damage="skip")
    lost = {one.path: one.lack for one in done.restored.refusals.named if one.lack == "damaged"}
    assert set(lost) == {b"folder/large", b"linked", b"small", b"folder/below/one chunk"}
    assert done.restored.refusals.exit_code is ExitCode.DIGEST
    whole = (bench.source / "folder" / "large").read_bytes()
    assert (tmp_path / "copy" / "folder" / "same as large").read_bytes() == whole  # a file of its own in the vault
    assert (tmp_path / "copy" / "sparse").read_bytes() == (bench.source / "sparse").read_bytes()


def test_a_file_that_is_gone_is_named(bench: Bench, tmp_path: Path, writable: Path) -> None:
    (writable / "small").unlink()
    with pytest.raises(MissingOrExtraError, match="small"):
        restore_far(bench, tmp_path / "copy")


def test_a_vault_s_end_of_an_earlier_version_says_so(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.protocol.failures.VERSIONS", tuple(one for one in VERSIONS if one < ASKING_VERSION))
    with pytest.raises(VersionError, match="cannot show evidence from afar"):
        restore_far(bench, tmp_path / "copy")


# --- A lost link -------------------------------------------------------------------------------------------------------------


class LinkOfBytes(LinkInBetween):
    """A link that is lost when so many bytes were read from it."""

    def __init__(self, link: LocalLink, most: int) -> None:
        super().__init__(link)
        self._left = most

    def read(self) -> bytes:
        block = super().read()
        self._left -= len(block)
        if self._left < 0:
            self.close()
            raise LinkLostError("cut")
        return block


def cut_after(bench: Bench, *received: int | None) -> tuple[list[Link], Callable[[], Link]]:
    """Links that are lost after so many bytes; None holds."""
    links: list[Link] = []
    cuts = iter(received)

    def connect() -> Link:
        link = bench.serve()[0]
        cut = next(cuts)
        links.append(link if cut is None else LinkOfBytes(link, cut))
        return links[-1]

    return links, connect


def test_a_lost_link_goes_on_at_what_was_due(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "pause_seconds", lambda _: 0.0)
    links, connect = cut_after(bench, 2 * MIB, MIB, 2 * MIB, None)
    done = restore_far(bench, tmp_path / "copy", connect=connect, retries=1)
    assert same(bench, tmp_path / "copy")
    assert len(links) == 4
    assert done.stream.interruptions == 3
    assert done.log.names("restore") == ["link-lost", "resumed"] * 3
    assert done.stream.received == done.counts.received  # what had come whole was not asked for again


def test_a_link_that_does_not_come_back_leaves_nothing(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "pause_seconds", lambda _: 0.0)
    _, connect = cut_after(bench, 2 * MIB, 0, 0, 0)
    with pytest.raises(LinkLostError):
        restore_far(bench, tmp_path / "copy", connect=connect, retries=3)
    assert not (tmp_path / "copy").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".evidencesync")]
