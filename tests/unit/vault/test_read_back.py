from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.custody.manifest import CheckedLine
from evidencesync.errors import DigestMismatchError, InternalError, MissingOrExtraError
from evidencesync.evidence.entry import Entry
from evidencesync.files.disk import FOLDER_FLAGS
from evidencesync.vault.readback import ReadBack, read_back
from tests.unit.vault.acquiring import file_line, folder_line

LARGE = os.urandom(5 << 20) + b"end"
SMALL = 100  # in each folder: more than one batch together


def small(number: int, file: int) -> bytes:
    return b"%d-%d" % (number, file) * (file % 50)


@pytest.fixture(scope="module")
def listed() -> list[CheckedLine]:
    """The lines of the tree below."""
    lines = [folder_line(b"")]
    for number in range(3):
        lines.append(folder_line(b"d%d" % number))
        lines += [file_line(b"d%d/f%03d" % (number, file), small(number, file)) for file in range(SMALL)]
        lines.append(file_line(b"d%d/large" % number, LARGE))
    return lines


@pytest.fixture
def data(tmp_path: Path, listed: list[CheckedLine]) -> Iterator[tuple[Path, int, list[CheckedLine]]]:
    """A tree of many small files, an empty one and one that counts as large."""
    folder = tmp_path / "data"
    for number in range(3):
        (folder / f"d{number}").mkdir(parents=True)
        for file in range(SMALL):
            (folder / f"d{number}" / f"f{file:03}").write_bytes(small(number, file))
        (folder / f"d{number}" / "large").write_bytes(LARGE)
    fd = os.open(folder, FOLDER_FLAGS)
    yield folder, fd, list(listed)
    os.close(fd)


def test_a_good_tree_is_counted_and_progress_adds_up(data: tuple[Path, int, list[CheckedLine]]) -> None:
    _, fd, lines = data
    told: list[tuple[int, int]] = []
    result = read_back(fd, iter(lines), lambda files, size: told.append((files, size)))
    sizes = [line.size for _, line in lines if isinstance(line, Entry) and line.size is not None]
    assert result == ReadBack(3 * (SMALL + 1), sum(sizes))
    assert (sum(files for files, _ in told), sum(size for _, size in told)) == (result.files, result.bytes)


@pytest.mark.parametrize("name", ["d1/f017", "d2/large", "d0/f099"])
@pytest.mark.parametrize("where", [0, -1])
def test_one_flipped_bit_is_found_and_named(data: tuple[Path, int, list[CheckedLine]], name: str, where: int) -> None:
    folder, fd, lines = data
    content = bytearray((folder / name).read_bytes())
    content[where] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DigestMismatchError, match=name):
        read_back(fd, lines)


@pytest.mark.parametrize("name", ["d1/f017", "d2/large", "d0/f000"])
@pytest.mark.parametrize("change", ["longer", "shorter"])
def test_another_size_is_found(data: tuple[Path, int, list[CheckedLine]], name: str, change: str) -> None:
    folder, fd, lines = data
    content = (folder / name).read_bytes()
    if change == "shorter" and not content:
        return
    (folder / name).write_bytes(content + b"x" if change == "longer" else content[:-1])
    with pytest.raises(DigestMismatchError, match=f"{name}; it has"):
        read_back(fd, lines)


@pytest.mark.parametrize("name", ["d1/f000", "d1/large"])
@pytest.mark.parametrize("kind", ["nothing", "symlink", "fifo", "folder"])
def test_what_stands_in_a_files_place_is_found(data: tuple[Path, int, list[CheckedLine]], name: str, kind: str) -> None:
    folder, fd, lines = data
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if kind == "symlink":
        (folder.parent / "elsewhere").write_bytes(content)
        path.symlink_to(folder.parent / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(MissingOrExtraError):
        read_back(fd, lines)


def test_either_digest_alone_is_enough_to_fail(data: tuple[Path, int, list[CheckedLine]]) -> None:
    _, fd, lines = data
    for path in (b"d0/f001", b"d0/large"):
        line = dict(lines)[path]
        assert isinstance(line, Entry)
        for wrong in ({"sha256": "0" * 64}, {"blake3": "0" * 64}):
            changed = Entry(**{name: getattr(line, name) for name in line.__struct_fields__} | wrong)
            with pytest.raises(DigestMismatchError):
                read_back(fd, [(path, changed)])


def test_an_entry_without_all_its_digests_is_our_defect(data: tuple[Path, int, list[CheckedLine]]) -> None:
    _, fd, _ = data
    with pytest.raises(InternalError):
        read_back(fd, [(b"x", Entry(type="file", path="x", size=1, blake3="0" * 64))])


def test_nothing_to_read_is_fine(data: tuple[Path, int, list[CheckedLine]]) -> None:
    _, fd, _ = data
    assert read_back(fd, [folder_line(b""), (b"x", Entry(type="file", path="x", flags=["unreadable"]))]) == ReadBack(0, 0)
