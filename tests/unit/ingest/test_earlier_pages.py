"""The pages of an earlier manifest: wherever its blocks end, and no further than to a line that no manifest has."""

from __future__ import annotations

from pathlib import Path

from evidencesync.ingest.pages import _manifest_at
from evidencesync.limits import MAX_MANIFEST_LINE, MIB
from evidencesync.protocol.pages import page_positions

LINES = [b'{"type":"file","path":"%d"}\n' % number for number in range(100)]


def test_pages_are_found_over_the_borders_of_blocks_and_in_an_unfinished_line(tmp_path: Path) -> None:
    lines = [b'{"type":"file","path":"%0400d"}\n' % number for number in range(3 * MIB // 400)] + [b'{"type":"fi']
    (tmp_path / "manifest").write_bytes(b"".join(lines))
    manifest = _manifest_at(tmp_path / "manifest", 1)
    assert manifest.positions == page_positions(lines)


def test_nothing_is_found_behind_a_line_that_is_too_long(tmp_path: Path) -> None:
    before = b"".join(LINES)
    (tmp_path / "manifest").write_bytes(before + b"x" * MAX_MANIFEST_LINE + b"\n" + before)
    assert _manifest_at(tmp_path / "manifest", 1).positions == page_positions(LINES)
    (tmp_path / "manifest").write_bytes(before + b"x" * 3 * MIB)
    assert _manifest_at(tmp_path / "manifest", 1).positions == page_positions(LINES)
