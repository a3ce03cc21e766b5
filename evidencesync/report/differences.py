"""What two acquisitions of an item do not have alike: both manifests side by side, in the order that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.entry import Entry
from evidencesync.limits import MAX_REPORT_LISTED
from evidencesync.report.document import Difference, DifferenceKind, Differences
from evidencesync.report.manifests import iter_lines, path_pair
from evidencesync.vault.layout import ItemLayout

_END: Final = None


def compare_acquisitions(item: ItemLayout, earlier: int, later: int) -> Differences:
    """Counts and first differences of two acquisitions. A manifest that cannot be read is the `problem`."""
    counts: Counter[str] = Counter()
    listed: list[Difference] = []
    problem: str | None = None
    try:
        for raw, kind in _pairs(_entries(item, earlier), _entries(item, later)):
            counts[kind or "same"] += 1
            if kind is not None and len(listed) < MAX_REPORT_LISTED:
                listed.append(Difference(path_pair(raw), kind))
    except EvidenceSyncError as error:
        problem = error.message
    return Differences(earlier, later, dict(sorted(counts.items())), listed, problem)


def _entries(item: ItemLayout, number: int) -> Iterator[tuple[bytes, Entry]]:
    return ((raw, line) for raw, line in iter_lines(item, number) if isinstance(line, Entry))


def _pairs(
    old: Iterator[tuple[bytes, Entry]], new: Iterator[tuple[bytes, Entry]]
) -> Iterator[tuple[bytes, DifferenceKind | None]]:
    """Every path of either, with what is different about it."""
    left, right = next(old, _END), next(new, _END)
    while left is not None and right is not None:
        left_at, right_at = _order(left[0]), _order(right[0])
        if left_at == right_at:
            yield right[0], _difference(left[1], right[1])
        elif left_at < right_at:
            yield left[0], "removed"
        else:
            yield right[0], "added"
        if left_at <= right_at:
            left = next(old, _END)
        if right_at <= left_at:
            right = next(new, _END)
    if left is not None:
        yield left[0], "removed"
    if right is not None:
        yield right[0], "added"
    yield from ((raw, "removed") for raw, _ in old)
    yield from ((raw, "added") for raw, _ in new)


def _order(raw: bytes) -> bytes:
    return raw.replace(b"/", b"\0")


def _difference(old: Entry, new: Entry) -> DifferenceKind | None:
    if old.type != new.type:
        return "kind"
    if old.has_content != new.has_content:
        return "unread"
    same = (old.size, old.blake3, old.target, old.target_b64, old.device_number) == (
        new.size,
        new.blake3,
        new.target,
        new.target_b64,
        new.device_number,
    )
    return None if same else "content"
