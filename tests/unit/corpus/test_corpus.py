from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.corpus.builder import NAMES, TIMES, build, busy, demolish
from tests.corpus.lister import differences, list_folder
from tests.support.file_systems import mounted


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that any account can reach; pytest's own cannot be removed when it is full of such things."""
    folder = Path(tempfile.mkdtemp(prefix="corpus-"))
    folder.chmod(0o755)
    yield folder
    demolish(folder)


def test_the_corpus_has_one_of_everything(place: Path) -> None:
    privileged = os.geteuid() == 0
    made = build(place, privileged=privileged)
    listing = list_folder(place)
    assert [one.what for one in made if one.refused is None and one.path not in listing] == []
    kinds = {seen["type"] for seen in listing.values()}
    assert kinds >= {"file", "directory", "symlink", "fifo", "socket"}
    if privileged:
        assert kinds >= {"block-device", "character-device"}
    assert sum(path.startswith(b"names/") for path in listing) >= len(NAMES) - 12  # what some file system cannot hold
    assert max(map(len, listing)) > 8000
    assert listing[b"links/hard one"]["inode"] == listing[b"other links/hard three"]["inode"]
    assert listing[b"links/dangling"]["target"] == b"nowhere at all"
    assert len([path for path in listing if path.startswith(b"times/")]) == len(TIMES) + 2


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "vfat"])
def test_the_corpus_can_be_made_and_removed_on(kind: str, tmp_path: Path, require_program: Callable[[str], str]) -> None:
    with mounted(kind, tmp_path, 400 << 20, require_program) as folder:
        root = folder / "corpus"
        root.mkdir()
        made = build(root, privileged=True)
        listing = list_folder(root)
        assert [one.what for one in made if one.refused is None and one.path not in listing] == []
        assert sum(one.refused is None for one in made) > (150 if kind == "vfat" else 200)
        demolish(root)
        assert not root.exists()


def test_the_lister_changes_nothing_but_what_links_tell_of_themselves(place: Path) -> None:
    build(place, privileged=os.geteuid() == 0)
    before = list_folder(place)
    assert differences(before, list_folder(place)) == []


def test_the_lister_finds_every_change(place: Path) -> None:
    build(place, privileged=False)
    before = list_folder(place)
    target = place / "contents/small"
    target.chmod(stat.S_IRUSR)
    os.utime(target, ns=(1, 2))
    (place / "contents/one").write_bytes(b"2")
    (place / "contents/empty").unlink()
    (place / "new").touch()
    said = "\n".join(differences(before, list_folder(place)))
    for expected in (
        "small': mode",
        "small': mtime",
        "small': atime",
        "one': sha256",
        "missing: b'contents/empty'",
        "too much: b'new'",
    ):
        assert expected in said


def test_a_busy_file_is_still_there(place: Path) -> None:
    build(place, privileged=False)
    with busy(place):
        assert list_folder(place / "contents/busy")[b"busy"]["size"] == 7
