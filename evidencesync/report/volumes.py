"""What one file of a report shows: all of it, or one volume of a PDF that is too large for one file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from evidencesync.custody.publickey import PublicKey
from evidencesync.errors import UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_PDF_ACQUISITIONS, MAX_PDF_VOLUMES
from evidencesync.report.document import Acquisition, Differences, Item, Judgement
from evidencesync.report.gather import Gathered
from evidencesync.report.verdicts import path_remarks, places_text
from evidencesync.vault.layout import ItemLayout

REPORT_NAMESPACE: Final = "report@evidencesync"
SIGNATURE: Final = ".sig"  # behind the name of each file that is signed


@dataclass(frozen=True, slots=True)
class Choices:
    """What a report has by choice. `signed_by`: who will sign it, safe to show; `key`: with which key."""

    files: bool = True
    signed_by: str | None = None
    key: PublicKey | None = None


@dataclass(frozen=True, slots=True)
class ShownItem:
    """An item, and which of its acquisitions a file shows. What is about the whole item stands where it `begins`."""

    number: int
    item: Item
    layout: ItemLayout
    acquisitions: list[Acquisition]
    differences: list[Differences]
    begins: bool


@dataclass(frozen=True, slots=True)
class Volume:
    """One file of a report. `number` counts from 1. `names` and `shows` are of all files; `sha256` of those that are made."""

    number: int
    names: list[str]
    items: list[ShownItem]
    shows: list[str]
    sha256: dict[int, str]
    judgement: Judgement

    @property
    def is_split(self) -> bool:
        """Whether the report has more files than this one."""
        return len(self.names) > 1

    @property
    def tables(self) -> list[tuple[ItemLayout, int, dict[bytes, str]]]:
        """Every acquisition that is shown, in order: its item's folder, its number, and what errors say of paths in it."""
        return [
            (shown.layout, one.number, path_remarks(self.judgement, shown.item, one.number))
            for shown in self.items
            for one in shown.acquisitions
        ]


def volume_count(acquisitions: int) -> int:
    """How many files a PDF of so many acquisitions has. Raises UsageError for more than may be."""
    count = max(-(-acquisitions // MAX_PDF_ACQUISITIONS), 1)
    if count > MAX_PDF_VOLUMES:
        most = MAX_PDF_VOLUMES * MAX_PDF_ACQUISITIONS
        hint = "Name an item or an acquisition, or make HTML or JSON, which have no such limit."
        raise UsageError(f"a PDF report holds at most {most:,} acquisitions, and these are {acquisitions:,}", hint=hint)
    return count


def volume_names(target: Path, count: int) -> list[Path]:
    """The files of a report: `r.pdf`, or `r-1.pdf`, `r-2.pdf` ..."""
    if count == 1:
        return [target]
    return [target.with_name(f"{target.stem}-{number}{target.suffix}") for number in range(1, count + 1)]


def volumes(gathered: Gathered, names: list[str]) -> list[Volume]:
    """The files of a report, as many as there are names."""
    everything = sum(len(item.acquisitions) for item in gathered.report.items)
    parts = list(_split(gathered, MAX_PDF_ACQUISITIONS if len(names) > 1 else everything))
    shows = ["; ".join(_said(shown) for shown in items) for items in parts]
    return [Volume(number, names, items, shows, {}, gathered.report.judgement) for number, items in enumerate(parts, 1)]


def with_digests(volume: Volume, sha256: dict[int, str]) -> Volume:
    """The same volume, which knows the digests of others."""
    return replace(volume, sha256=sha256)


def _split(gathered: Gathered, most: int) -> Iterator[list[ShownItem]]:
    """At most so many acquisitions in each part, and all in their order. An item without any makes no part of its own."""
    part: list[ShownItem] = []
    room = most
    for number, (item, layout) in enumerate(zip(gathered.report.items, gathered.layouts, strict=True), 1):
        left, begins = item.acquisitions, True
        while begins or left:
            if left and not room:
                yield part
                part, room = [], most
            taken, left = left[:room], left[room:]
            numbers = {one.number for one in taken}
            differences = [one for one in item.differences if one.later in numbers]
            part.append(ShownItem(number, item, layout, taken, differences, begins))
            room, begins = room - len(taken), False
    yield part


def _said(shown: ShownItem) -> str:
    title = shown.item.item
    return places_text((title, one.number) for one in shown.acquisitions) or f"item {safe_text(title, 80)}"
