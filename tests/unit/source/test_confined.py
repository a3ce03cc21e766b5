"""What is offered may be read, and nothing beside it: no `..`, no link that leads out, whatever is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidencesync.errors import EvidenceSyncError, NotThereError, PathEscapeError, SourceNotFoundError
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import confined
from evidencesync.source.walker import walk


@pytest.fixture
def offered(tmp_path: Path) -> Path:
    root = tmp_path / "offered"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "file").write_bytes(b"inside")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_bytes(b"outside")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "in").symlink_to("a")
    os.mkfifo(root / "fifo")
    return root


def seen(offered: Path, asked: bytes) -> list[bytes]:
    with confined(os.fsencode(offered), asked) as place:
        return [found.path for found in walk(place.reading, FilterRules.none())]


@pytest.mark.parametrize("asked", [b"", b"/", b".", b"{root}", b"{root}/"])
def test_what_is_offered_is_named_in_several_ways(offered: Path, asked: bytes) -> None:
    paths = seen(offered, asked.replace(b"{root}", os.fsencode(offered)))
    assert paths == [b"", b"a", b"a/b", b"a/file", b"fifo", b"in", b"out"]


def test_a_part_of_it_may_be_asked_for(offered: Path) -> None:
    assert seen(offered, os.fsencode(offered / "a")) == [b"", b"b", b"file"]
    assert seen(offered, os.fsencode(offered / "a" / "file")) == [b"", b"file"]
    with confined(os.fsencode(offered), os.fsencode(offered / "a")) as place:
        assert (place.source.path, place.source.is_folder) == (os.fsencode(offered / "a"), True)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (b"{root}/../secret", PathEscapeError),
        (b"{root}/a/../../secret/key", PathEscapeError),
        (b"..", PathEscapeError),
        (b"{root}/a\0", PathEscapeError),
        (b"/etc", NotThereError),
        (b"/etc/passwd", NotThereError),
        (b"{root}-and-more", NotThereError),
        (b"{parent}", NotThereError),
        (b"{parent}/secret", NotThereError),
        (b"{root}/out", NotThereError),
        (b"{root}/out/key", NotThereError),
        (b"{root}/in", NotThereError),
        (b"{root}/in/file", NotThereError),
        (b"{root}/fifo", NotThereError),
        (b"{root}/a/file/x", NotThereError),
        (b"{root}/missing", NotThereError),
    ],
)
def test_everything_else_is_refused(offered: Path, asked: bytes, error: type[EvidenceSyncError]) -> None:
    asked = asked.replace(b"{root}", os.fsencode(offered)).replace(b"{parent}", os.fsencode(offered.parent))
    with pytest.raises(error) as refused, confined(os.fsencode(offered), asked):
        pytest.fail("it was given")
    if error is NotThereError:  # and what is there, or is not, makes no difference to what is said
        assert refused.value.message == "this machine offers another source than the one that was asked for"


def test_a_folder_that_becomes_a_link_after_it_was_looked_at_is_not_followed(offered: Path) -> None:
    with confined(os.fsencode(offered), os.fsencode(offered / "a" / "b")) as place:
        (offered / "a" / "b").rmdir()
        (offered / "a" / "b").symlink_to(offered.parent / "secret")
        with pytest.raises(SourceNotFoundError):
            list(walk(place.reading, FilterRules.none()))
        (offered / "a").rename(offered / "was-a")
        (offered / "a").symlink_to(offered.parent)
        (offered / "was-a" / "b").unlink()
        (offered / "was-a" / "b").mkdir()
        assert [found.path for found in walk(place.reading, FilterRules.none())] == [b""]


def test_a_link_that_is_itself_offered_was_chosen_by_who_offers_it(offered: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(offered)
    assert seen(link, os.fsencode(link / "a")) == [b"", b"b", b"file"]
    with confined(os.fsencode(link), b"") as place:
        assert (place.source.named, place.source.path) == (os.fsencode(link), os.fsencode(offered))


def test_a_file_that_is_offered_has_nothing_below_it(offered: Path) -> None:
    file = os.fsencode(offered / "a" / "file")
    assert seen(offered / "a" / "file", b"") == [b"", b"file"]
    with pytest.raises(NotThereError), confined(file, file + b"/x"):
        pytest.fail("it was given")
