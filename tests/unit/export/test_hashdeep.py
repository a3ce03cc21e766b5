"""hashdeep's lists: what the program itself says of an acquisition with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.export.run import Format
from tests.support.bench_of_evidence import Bench
from tests.unit.export.exporting import BROKEN_LINES, GOOD_NAMES, MISREAD, NOT_UTF8, export, make_deep, run, write_files

pytestmark = pytest.mark.usefixtures("hashdeep")


@pytest.fixture(scope="module")
def hashdeep(require_program: object) -> None:
    assert callable(require_program)
    require_program("hashdeep")


def audit(bench: Bench, known: Path) -> tuple[int, str]:
    done = run("hashdeep", "-l", "-a", "-vv", "-k", known, "-r", "data", folder=bench.acquisition(1))
    return done.returncode, done.stdout.decode("utf-8", "replace")


def test_hashdeep_passes_an_acquisition_with_its_list(good: Bench, tmp_path: Path) -> None:
    exported = export(good, Format.HASHDEEP, tmp_path / "known")
    assert (exported.left_out.count, exported.not_listed) == (0, 11)
    code, said = audit(good, tmp_path / "known")
    assert (code, "Audit passed" in said) == (0, True), said
    assert f"Files matched: {len(GOOD_NAMES) + 1}\n" in said


def test_hashdeep_finds_what_was_changed(bench: Bench, tmp_path: Path) -> None:
    write_files(bench.source, {b"a": b"1", b"b": b"2"})
    bench.push()
    export(bench, Format.HASHDEEP, tmp_path / "known")
    stored = bench.acquisition(1) / "data" / "a"
    stored.chmod(0o644)
    stored.write_bytes(b"3")
    code, said = audit(bench, tmp_path / "known")
    assert (code, "Audit failed" in said) == (1, True)


def test_names_that_no_line_holds_are_left_out_and_told(odd: Bench, tmp_path: Path) -> None:
    exported = export(odd, Format.HASHDEEP, tmp_path / "known")
    assert exported.left_out.count == 3
    assert sorted(exported.left_out.names) == [r"both\x0d\x0a", r"carriage\x0d", r"new\x0aline"]
    text = (tmp_path / "known").read_text("utf-8")
    for shown in exported.left_out.names:
        assert f"## cannot be listed: {shown}\n" in text
    code, said = audit(odd, tmp_path / "known")
    assert (code, "New files found: 3\n" in said) == (1, True)  # never a pass over what was not compared
    assert f"Files matched: {len(GOOD_NAMES | MISREAD)}\n" in said
    assert "Known files not found: 0\n" in said


@pytest.mark.parametrize("name", BROKEN_LINES)
def test_a_file_that_was_left_out_is_never_passed(name: bytes, bench: Bench, tmp_path: Path) -> None:
    write_files(bench.source, {name: b"alone", b"x": b"y"})
    bench.push()
    assert export(bench, Format.HASHDEEP, tmp_path / "known").left_out.count == 1
    assert audit(bench, tmp_path / "known")[0] == 1


def test_names_that_are_not_utf8_are_in_the_list(bench: Bench, tmp_path: Path) -> None:
    write_files(bench.source, NOT_UTF8)
    bench.push()
    assert export(bench, Format.HASHDEEP, tmp_path / "known").left_out.count == 0
    assert audit(bench, tmp_path / "known")[0] == 0


def test_the_longest_line_that_hashdeep_reads_is_written_and_no_longer_one(bench: Bench, tmp_path: Path) -> None:
    """A line is `1,` SHA-256 `,data/` and nine folders of 200 letters; the last name fills it up."""
    room = 2046 - len("1,") - 64 - len(",data/") - 9 * 201
    folder = b"/".join([b"d" * 200] * 9) + b"/"
    write_files(bench.source, {folder + b"f" * room: b"x", folder + b"g" * (room + 1): b"y"})
    bench.push()
    exported = export(bench, Format.HASHDEEP, tmp_path / "known")
    assert exported.left_out.count == 1
    assert max(map(len, (tmp_path / "known").read_bytes().splitlines())) == 2046
    code, said = audit(bench, tmp_path / "known")
    assert (code, "Files matched: 1\n" in said, "New files found: 1\n" in said) == (1, True, True), said


def test_a_name_that_is_left_out_cannot_put_a_line_into_the_list(bench: Bench, tmp_path: Path) -> None:
    """hashdeep reads what is behind the 2046th byte of a line as a line of its own."""
    forged = b"1," + b"0" * 64 + b",data"
    write_files(bench.source, {b"/".join([b"\n" * 100, *[b"d" * 200] * 9, forged * 3, b"x"]): b"x", b"y": b"y"})
    bench.push()
    export(bench, Format.HASHDEEP, tmp_path / "known")
    assert max(map(len, (tmp_path / "known").read_bytes().splitlines())) < 2046
    code, said = audit(bench, tmp_path / "known")
    assert (code, "Known files not found: 0\n" in said) == (1, True), said


def test_a_path_longer_than_any_system_opens_is_left_out(bench: Bench, tmp_path: Path) -> None:
    make_deep(bench.source, 25)
    bench.push()
    assert export(bench, Format.HASHDEEP, tmp_path / "known").left_out.count == 1
