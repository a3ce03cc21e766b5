"""Bags (RFC 8493): what is in them, which names they hold, and that the Library of Congress's program takes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidencesync.errors import UnrepresentableNameError
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.export.bag import bag_path
from evidencesync.export.run import Format
from evidencesync.files.disk import FOLDER_FLAGS
from evidencesync.vault.tree import TreeReader
from tests.support.bench_of_evidence import Bench
from tests.unit.export.exporting import (
    BROKEN_LINES,
    GOOD_NAMES,
    MISREAD,
    NOT_UTF8,
    NOW_NS,
    bagit_program,
    digests,
    export,
    files_below,
    make_deep,
    payload,
    run,
    write_files,
)


@pytest.fixture(scope="module")
def bag(good: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bags") / "bag"
    export(good, Format.BAGIT, made)
    return made


def test_the_library_of_congress_takes_a_bag(bag: Path) -> None:
    done = bagit_program(bag)
    assert done.returncode == 0, done.stderr.decode()


def test_the_payload_is_the_evidence_and_nothing_else(bag: Path, good: Bench) -> None:
    listed = payload(bag)
    assert listed == {b"data/" + name: digest for name, digest in files_below(bag / "data").items()}
    assert digests(GOOD_NAMES).items() <= files_below(bag / "data").items()
    assert files_below(bag / "data") == files_below(good.acquisition(1) / "data")


def test_every_other_file_is_in_the_tag_manifest(bag: Path) -> None:
    others = {name: digest for name, digest in files_below(bag).items() if not name.startswith(b"data/")}
    del others[b"tagmanifest-sha256.txt"]
    assert payload(bag, "tagmanifest-sha256.txt") == others


def test_a_bag_has_all_documents_and_the_whole_chain_byte_for_byte(bag: Path, good: Bench) -> None:
    for file in good.acquisition(1).iterdir():
        if file.is_file():
            assert (bag / file.name).read_bytes() == file.read_bytes()
    assert files_below(bag / "custody") == files_below(good.vault.layout.item(good.name).custody)


def test_what_checks_an_acquisition_checks_a_bag(bag: Path) -> None:
    assert run("sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS", folder=bag).returncode == 0


def test_the_bag_says_what_it_is(bag: Path, good: Bench) -> None:
    info = dict(line.split(": ", 1) for line in (bag / "bag-info.txt").read_text("utf-8").splitlines())
    files = files_below(bag / "data")
    size = sum((bag / "data" / os.fsdecode(name)).stat().st_size for name in files)
    assert info["Payload-Oxum"] == f"{size}.{len(files)}"
    assert info["Bagging-Date"] == format_utc_time(NOW_NS)[:10]
    assert (info["Evidencesync-Case"], info["Evidencesync-Item"]) == ("2026/11", "E1")
    assert info["Evidencesync-Manifest-SHA256"] == files_below(good.acquisition(1))[b"manifest.jsonl"]
    assert info["Evidencesync-Examiner-Key"] == good.signer.public_key.fingerprint
    assert info["Evidencesync-Unrepresented-Entries"] == "4"


def test_what_is_no_file_is_listed(bag: Path) -> None:
    lines = (bag / "unrepresented.txt").read_text("utf-8").splitlines()[1:]
    assert sorted(lines[:-1]) == ["empty-folder  hollow", "empty-folder  hollow/er", "fifo  fifo", "symlink  link"]
    assert lines[-1] == "4 in all"


def test_a_bag_shares_no_inode_with_the_vault_and_holds_nothing_that_runs(bag: Path, good: Bench) -> None:
    for place, _, names in os.walk(os.fsencode(bag)):
        for name in names:
            found = os.lstat(os.path.join(place, name))
            assert found.st_nlink == 1
            assert found.st_mode & 0o7333 == 0
    stored = (good.acquisition(1) / "data" / "image.dd").stat()
    assert (bag / "data" / "image.dd").stat().st_ino != stored.st_ino
    assert (bag / "data" / "image.dd").stat().st_mtime_ns == stored.st_mtime_ns


def test_names_that_break_lines_are_escaped_and_no_others(odd: Bench, tmp_path: Path) -> None:
    exported = export(odd, Format.BAGIT, tmp_path / "bag")
    everything = GOOD_NAMES | BROKEN_LINES | MISREAD
    assert payload(tmp_path / "bag") == {b"data/" + name: digest for name, digest in digests(everything).items()}
    assert exported.misread == len(MISREAD)
    assert bag_path(b"a%\r\nb\tc\x1b ") == b"data/a%25%0D%0Ab\tc\x1b "


def test_line_breaks_in_names_are_read_well_by_the_library_of_congress(bench: Bench, tmp_path: Path) -> None:
    write_files(bench.source, BROKEN_LINES)
    bench.push()
    assert export(bench, Format.BAGIT, tmp_path / "bag").misread == 0
    done = bagit_program(tmp_path / "bag")
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("name", MISREAD)
def test_what_is_called_misread_is_misread_and_the_program_says_so(name: bytes, bench: Bench, tmp_path: Path) -> None:
    write_files(bench.source, {name: b"x"})
    bench.push()
    assert export(bench, Format.BAGIT, tmp_path / "bag").misread == 1
    assert bagit_program(tmp_path / "bag").returncode != 0


def test_names_that_are_not_utf8_are_refused_by_name_before_anything_is_written(bench: Bench, tmp_path: Path) -> None:
    write_files(bench.source, NOT_UTF8 | {b"folder-\xff/x": b"", b"good": b""})
    bench.push()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(UnrepresentableNameError) as refused:
        export(bench, Format.BAGIT, tmp_path / "bag")
    assert refused.value.exit_code == 2
    for shown in (r"latin-\xe9", r"surrogate-\xed\xa0\x80", r"folder-\xff"):
        assert shown in refused.value.message
    assert sorted(os.listdir(tmp_path)) == before


def test_a_link_whose_name_is_not_utf8_is_no_hindrance(bench: Bench, tmp_path: Path) -> None:
    write_files(bench.source, {b"x": b""})
    os.symlink(b"x", os.fsencode(bench.source) + b"/link-\xff")
    bench.push()
    export(bench, Format.BAGIT, tmp_path / "bag")
    assert "symlink  link-\\xff\n" in (tmp_path / "bag" / "unrepresented.txt").read_text("utf-8")


def test_a_path_longer_than_any_system_opens_at_once_is_in_the_bag(bench: Bench, tmp_path: Path) -> None:
    path = make_deep(bench.source, 25)
    bench.push()
    export(bench, Format.BAGIT, tmp_path / "bag")
    assert set(payload(tmp_path / "bag")) == {b"data/" + path}
    reader = TreeReader(os.open(tmp_path / "bag" / "data", FOLDER_FLAGS))
    fd, _ = reader.open_file(path)
    assert os.read(fd, 100) == b"deep"
    os.close(fd)
    reader.close()


def test_evidence_without_a_file_is_a_bag(bench: Bench, tmp_path: Path) -> None:
    bench.push()
    export(bench, Format.BAGIT, tmp_path / "bag")
    done = bagit_program(tmp_path / "bag")
    assert done.returncode == 0, done.stderr.decode()
    assert "empty-folder  .\n1 in all\n" in (tmp_path / "bag" / "unrepresented.txt").read_text("utf-8")


def test_a_source_that_is_one_file_is_a_bag(bench: Bench, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"image")
    bench.push(source=os.fsencode(image))
    export(bench, Format.BAGIT, tmp_path / "bag")
    assert set(payload(tmp_path / "bag")) == {b"data/disk.img"}
    assert bagit_program(tmp_path / "bag").returncode == 0
