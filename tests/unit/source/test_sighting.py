"""What a look at a source sees, and what it leaves behind: nothing."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.errors import UsageError
from evidencesync.source.changes import SourceSnapshot, look
from evidencesync.source.filters import FilterRules
from evidencesync.source.listed import ListedNames

EVERYTHING = FilterRules.none()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub" / "deeper").mkdir(parents=True)
    (root / "a").write_bytes(b"hello")
    (root / "sub" / "b\xff".encode("utf-8", "surrogateescape").decode("utf-8", "replace")).write_bytes(b"")
    (root / "sub" / "deeper" / "c").write_bytes(bytes(5000))
    os.symlink("a", root / "link")
    os.mkfifo(root / "fifo")
    return root


def seen(root: Path, rules: FilterRules = EVERYTHING) -> bytes:
    sight = look(os.fsencode(root), rules)
    assert sight is not None
    return sight.digest


def same_size(root: Path) -> None:
    status = (root / "a").stat()
    (root / "a").write_bytes(b"HELLO")
    os.utime(root / "a", ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(root: Path) -> None:
    (root / "new").write_bytes(b"hello")
    (root / "new").rename(root / "a")


def link_elsewhere(root: Path) -> None:
    (root / "link").unlink()
    os.symlink("sub", root / "link")


def come_and_go(root: Path) -> None:
    (root / "x").touch()
    (root / "x").unlink()


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file grows": lambda root: (root / "sub" / "deeper" / "c").write_bytes(bytes(5001)),
    "other bytes of the same size, and the modification time put back": same_size,
    "another file takes the name": replaced,
    "a file comes": lambda root: (root / "sub" / "d").touch(),
    "a file goes": lambda root: (root / "a").unlink(),
    "a file moves": lambda root: (root / "a").rename(root / "sub" / "a"),
    "a mode changes": lambda root: (root / "a").chmod(0o600),
    "an attribute is set": lambda root: os.setxattr(root / "a", "user.note", b"x"),
    "a link leads elsewhere": link_elsewhere,
    "a folder comes": lambda root: (root / "sub" / "empty").mkdir(),
    "a name comes and goes": come_and_go,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(source: Path, change: str) -> None:
    before = seen(source)
    assert seen(source) == before
    CHANGES[change](source)
    assert seen(source) != before


def test_a_look_touches_nothing_and_follows_no_link(source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, source / "way out")
    places = [source, source / "sub", source / "sub" / "deeper", source / "a", outside]
    for place in places:
        os.utime(place, (0, place.stat().st_mtime))
    before = [place.stat() for place in places]
    sight = look(os.fsencode(source), EVERYTHING)
    assert sight is not None
    assert sight.traces == 0
    assert [(now.st_atime_ns, now.st_ctime_ns) for now in (place.stat() for place in places)] == [
        (then.st_atime_ns, then.st_ctime_ns) for then in before
    ]
    (outside / "x").touch()
    assert look(os.fsencode(source), EVERYTHING) == sight


def test_what_a_rule_leaves_out_is_no_change(source: Path) -> None:
    rules = FilterRules.from_patterns(["*.tmp", "/cache/"])
    before = seen(source, rules)
    (source / "sub" / "x.tmp").write_bytes(b"x")
    (source / "cache").mkdir()
    (source / "cache" / "y").touch()
    assert seen(source, rules) == before
    (source / "sub" / "x").touch()
    assert seen(source, rules) != before


def test_what_is_not_listed_is_no_change(source: Path) -> None:
    rules = FilterRules.from_patterns(listed=ListedNames.parse(b"sub/deeper\nmissing", b"\n"))
    before = seen(source, rules)
    (source / "a").write_bytes(b"more than before")
    (source / "sub" / "z").touch()
    assert seen(source, rules) == before
    (source / "missing").touch()
    assert seen(source, rules) != before


def test_other_rules_are_another_look(source: Path) -> None:
    assert seen(source) != seen(source, FilterRules.from_patterns(["nothing like this"]))


def test_a_single_file_is_looked_at_by_itself(source: Path) -> None:
    before = seen(source / "a")
    (source / "neighbour").touch()
    assert seen(source / "a") == before
    with (source / "a").open("ab") as file:
        file.write(b"!")
    assert seen(source / "a") != before


def test_a_source_that_is_not_there_is_none(source: Path) -> None:
    assert look(os.fsencode(source / "missing"), EVERYTHING) is None
    assert look(os.fsencode(source / "a" / "b"), EVERYTHING) is None


def test_a_source_that_has_become_a_fifo_is_refused(source: Path) -> None:
    with pytest.raises(UsageError):
        look(os.fsencode(source / "fifo"), EVERYTHING)


def test_every_entry_is_counted(source: Path) -> None:
    sight = look(os.fsencode(source), EVERYTHING)
    assert isinstance(sight, SourceSnapshot)
    assert sight.entries == 8


@pytest.mark.parametrize(
    ("age_ns", "is_another_look"),
    [
        (0, True),
        (1_999_000_000, True),
        (-1_500_000_000, True),  # FAT rounds up
        (2_000_000_000, False),
        (-3_600_000_000_000, False),
    ],
)
def test_a_look_before_the_tick_of_a_coarse_clock_is_over_is_like_no_other(
    source: Path, monkeypatch: pytest.MonkeyPatch, age_ns: int, is_another_look: bool
) -> None:
    """A second write in the tick leaves no other trace: the file would be taken for the one that was pushed."""
    written = 1_700_000_000 * 10**9
    os.utime(source / "a", ns=(written, written))
    clock = itertools.count(written + age_ns)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    assert (seen(source) != seen(source)) == is_another_look


def test_a_clock_of_fine_ticks_needs_no_second_look(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 1_700_000_000 * 10**9 + 1
    os.utime(source / "a", ns=(written, written))
    clock = itertools.count(written)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    assert seen(source) == seen(source)
