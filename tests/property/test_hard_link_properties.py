"""Any manifest's hard links: those that hold and those that do not are told apart, however few are looked for at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.custody.hardlinks import FalseLink, HardLinkCheck, is_hard_link
from evidencesync.evidence.entry import Entry, EntryType, Flag
from evidencesync.evidence.path import to_json_fields

KINDS: tuple[EntryType, ...] = ("file", "symlink", "fifo", "character-device")
DIGESTS = (None, "a" * 64, "b" * 64)
FLAGS: tuple[list[Flag] | None, ...] = (None, None, None, ["changed-while-read"], ["unreadable"])
NAMES = (*(b"%02d" % number for number in range(12)), b"odd \xff", b"zz")


@st.composite
def manifests(draw: st.DrawFn) -> list[tuple[bytes, Entry]]:
    """Entries in order, some of which are links to others, or to nothing."""
    entries = []
    for name in sorted(draw(st.sets(st.sampled_from(NAMES), min_size=1))):
        kind = draw(st.sampled_from(KINDS))
        path, path_b64 = to_json_fields(name)
        target = draw(st.none() | st.sampled_from(NAMES))
        first, first_b64 = (None, None) if target is None or target >= name else to_json_fields(target)
        entries.append(
            (
                name,
                Entry(
                    kind,
                    path,
                    path_b64,
                    blake3=draw(st.sampled_from(DIGESTS)) if kind == "file" else None,
                    target=draw(st.sampled_from(("here", "there"))) if kind == "symlink" else None,
                    device_number=draw(st.sampled_from(("1:3", "1:5"))) if kind == "character-device" else None,
                    hardlink_to=first,
                    hardlink_to_b64=first_b64,
                    flags=draw(st.sampled_from(FLAGS)),
                ),
            )
        )
    return entries


def may_be_one(one: Entry, other: Entry) -> bool:
    said = [(each.blake3, each.target, each.device_number) for each in (one, other)]
    return one.type == other.type and (said[0] == said[1] or bool(one.flags or other.flags))


def expected(entries: list[tuple[bytes, Entry]]) -> set[FalseLink]:
    """By all entries at once, as nobody who is given a manifest by a stranger could hold them."""
    there = dict(entries)
    found = set()
    for path, entry in entries:
        if not is_hard_link(entry):
            continue
        target = entry.hardlink_to.encode() if entry.hardlink_to is not None else b"odd \xff"
        other = there.get(target)
        if other is None or not may_be_one(entry, other):
            found.add(FalseLink(path, target, listed=other is not None))
    return found


@given(manifests(), st.integers(1, 5))
def test_every_false_link_is_found_and_no_other(entries: list[tuple[bytes, Entry]], at_once: int) -> None:
    links = HardLinkCheck(at_once)
    for path, entry in entries:
        links.add(path, entry)
    found = list(links.false_links(lambda: entries))
    assert len(found) == len(set(found))
    assert set(found) == expected(entries)


@pytest.mark.parametrize(("count", "at_once", "readings"), [(0, 10, 0), (10, 10, 1), (11, 10, 2), (35, 10, 4)])
def test_a_manifest_is_read_again_only_as_often_as_its_links_take(count: int, at_once: int, readings: int) -> None:
    entries = [(b"a%05d" % number, Entry("file", f"a{number:05d}", blake3="a" * 64)) for number in range(count)]
    entries += [
        (b"b%05d" % number, Entry("file", f"b{number:05d}", blake3="a" * 64, hardlink_to=f"a{number:05d}"))
        for number in range(count)
    ]
    links = HardLinkCheck(at_once)
    for path, entry in entries:
        links.add(path, entry)
    read = 0

    def again() -> Iterator[tuple[bytes, Entry]]:
        nonlocal read
        read += 1
        yield from entries

    assert list(links.false_links(again)) == []
    assert (links.count, read) == (count, readings)


def test_many_links_to_one_file_are_looked_for_once() -> None:
    entries = [(b"a", Entry("file", "a", blake3="a" * 64))]
    entries += [(b"b%05d" % n, Entry("file", f"b{n:05d}", blake3="a" * 64, hardlink_to="a")) for n in range(1000)]
    links = HardLinkCheck(1)
    for path, entry in entries:
        links.add(path, entry)
    read = 0

    def again() -> Iterator[tuple[bytes, Entry]]:
        nonlocal read
        read += 1
        yield from entries

    assert list(links.false_links(again)) == []
    assert read <= 2
