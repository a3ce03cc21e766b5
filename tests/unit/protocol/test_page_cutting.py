"""Where pages end depends on their lines alone: what did not change keeps its pages, and both ends find the same ones."""

from __future__ import annotations

import itertools
import random
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidencesync.evidence.digest import chunk_digest_of
from evidencesync.limits import MAX_MANIFEST_LINE, MAX_PAGE, MAX_PAGE_LINES, PAGE_CUT
from evidencesync.protocol.pages import PageCutter, cut_pages, page_positions
from tests.support.soak import often

HEADER = b'{"format":"evidencesync-manifest/1","vault_id":"0"}\n'
FOOTER = b'{"counts":{"file":3},"flags":{},"bytes":5}\n'


def entry_line(number: int, more: int = 60) -> bytes:
    return b'{"type":"file","path":"f%08d","blake3":"%s"}\n' % (number, b"%032x" % (number * 2654435761) * (more // 30))


def as_sent(lines: list[bytes]) -> list[bytes]:
    """What a sender does: the header and the footer by themselves, everything between through a cutter."""
    cutter = PageCutter()
    pages = [HEADER]
    pages += [page for line in lines if (page := cutter.add(line)) is not None]
    if rest := cutter.take():
        pages.append(rest)
    return [*pages, FOOTER]


lines_of_manifests = st.lists(
    st.builds(entry_line, st.integers(0, 10**8 - 1), st.integers(30, 4000)) | st.just(entry_line(7)), max_size=300
)


@settings(max_examples=often(40, 2000))
@given(lines=lines_of_manifests)
def test_the_vault_finds_the_pages_that_a_sender_cut(lines: list[bytes]) -> None:
    sent = as_sent(lines)
    assert list(cut_pages([HEADER, *lines, FOOTER])) == sent
    assert b"".join(sent) == HEADER + b"".join(lines) + FOOTER


@settings(max_examples=often(40, 2000))
@given(lines=lines_of_manifests)
def test_every_page_lies_where_it_is_said_to(lines: list[bytes]) -> None:
    manifest = HEADER + b"".join(lines) + FOOTER
    positions = page_positions([HEADER, *lines, FOOTER])
    for page in as_sent(lines):
        offset, length = positions[chunk_digest_of(page)]
        assert manifest[offset : offset + length] == page


@settings(max_examples=often(25, 1200))
@given(lines=lines_of_manifests)
def test_no_page_is_larger_than_a_receiver_takes(lines: list[bytes]) -> None:
    for page in as_sent(lines):
        assert 0 < len(page) <= MAX_PAGE
        assert page.count(b"\n") <= MAX_PAGE_LINES
        assert page.endswith(b"\n")
        assert len(page) - len(page.splitlines(keepends=True)[-1]) < PAGE_CUT


def uncut(count: int, size: int) -> list[bytes]:
    """Lines after none of which a page would end by itself."""
    lines = (b"%0*d\n" % (size - 1, number) for number in itertools.count())
    return list(itertools.islice((line for line in lines if crc32(line) & 0x3F), count))


def test_short_lines_end_a_page_by_their_number() -> None:
    pages = list(cut_pages(uncut(3 * MAX_PAGE_LINES + 5, 8)))
    assert [page.count(b"\n") for page in pages] == [MAX_PAGE_LINES] * 3 + [5]


def test_long_lines_end_a_page_by_their_size() -> None:
    pages = list(cut_pages(uncut(100, 5000)))
    assert {page.count(b"\n") for page in pages[:-1]} == {-(-PAGE_CUT // 5000)}


@pytest.mark.parametrize("size", [PAGE_CUT - 1, PAGE_CUT, PAGE_CUT + 1])
def test_a_page_ends_with_the_line_that_fills_it(size: int) -> None:
    (line,) = uncut(1, size)
    assert (PageCutter().add(line) is None) == (size < PAGE_CUT)


def test_the_longest_line_after_the_longest_rest_still_fits() -> None:
    first, last = uncut(1, PAGE_CUT - 1)[0], b"x" * (MAX_MANIFEST_LINE - 1) + b"\n"
    cutter = PageCutter()
    assert cutter.add(first) is None
    page = cutter.add(last)
    assert page == first + last
    assert len(page) <= MAX_PAGE


def manifest_of(numbers: list[int]) -> list[bytes]:
    return [entry_line(number, 240) for number in numbers]


CHANGES = {
    "a line put in": lambda lines, at: [*lines[:at], entry_line(10**7), *lines[at:]],
    "a line taken out": lambda lines, at: [*lines[:at], *lines[at + 1 :]],
    "a line changed": lambda lines, at: [*lines[:at], entry_line(10**7 + 1), *lines[at + 1 :]],
    "lines put in": lambda lines, at: [*lines[:at], *manifest_of(list(range(10**7, 10**7 + 50))), *lines[at:]],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seed", range(4))
def test_a_change_changes_few_pages(change: str, seed: int) -> None:
    lines = manifest_of(list(range(6000)))
    changed = CHANGES[change](lines, random.Random(seed).randrange(len(lines)))
    before, after = set(as_sent(lines)), as_sent(changed)
    assert len(after) > 60
    assert sum(page not in before for page in after) <= 6


def test_a_change_at_the_front_changes_few_pages() -> None:
    lines = manifest_of(list(range(6000)))
    before, after = set(as_sent(lines)), as_sent([entry_line(10**7), *lines])
    assert sum(page not in before for page in after) <= 4


def test_another_header_and_footer_leave_all_other_pages() -> None:
    lines = manifest_of(list(range(1000)))
    first = page_positions([HEADER, *lines, FOOTER])
    second = page_positions([HEADER.replace(b'"0"', b'"1"'), *lines, FOOTER.replace(b"3", b"4")])
    assert len(first.keys() & second.keys()) == len(first) - 2


def test_no_lines_are_no_pages() -> None:
    assert list(cut_pages([])) == []
    assert page_positions([]) == {}
    assert PageCutter().take() == b""
