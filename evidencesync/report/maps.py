"""Makes strip maps: where in the largest files of an acquisition bytes changed, could not be read, or are zeros.

They are made from recipes (`chunks.bin`) and manifests only: no evidence is read. They are pictures, and prove nothing.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Container, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, Final

from evidencesync.delta.recipe import PlacedRow, ReadAt, Recipe, find_recipes
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.entry import Entry
from evidencesync.files.disk import opened_file, opened_folder
from evidencesync.limits import MAX_MAP_RANGES, MAX_REPORT_MAPS, MIN_ZERO_RUN
from evidencesync.report.document import FileMap, MapRange, NamedSize, RangeKind
from evidencesync.report.manifests import path_pair
from evidencesync.vault.catalog import read_published
from evidencesync.vault.layout import CHUNKS, ItemLayout

_SMALLEST: Final = 1 << 20
_KINDS: Final[tuple[RangeKind, ...]] = ("data", "changed", "zero", "unreadable")


@dataclass(frozen=True, slots=True)
class _Large:
    raw: bytes
    size: int
    blake3: str


def file_maps(item: ItemLayout, number: int, damaged: Container[bytes]) -> list[FileMap]:
    """Maps of the files of an acquisition that have most to show; of none where documents cannot be read. Raises nothing.

    First come large files among `damaged`, then those with another content than the acquisition before has under their path,
    then those with a content that it does not have; of equals the largest.
    """
    try:
        with ExitStack() as stack:
            return list(_file_maps(item, number, damaged, stack))
    except (EvidenceSyncError, OSError):
        return []


def _file_maps(item: ItemLayout, number: int, damaged: Container[bytes], stack: ExitStack) -> Iterator[FileMap]:
    largest = _chosen(item, number, damaged)
    before = _same_paths(item, number - 1, {one.raw for one in largest}) if number > 1 and largest else {}
    wanted = {bytes.fromhex(one.blake3): one.size for one in [*largest, *before.values()]}
    recipes = _find(item, number, wanted, stack)
    for one in largest:
        recipe = recipes.get(bytes.fromhex(one.blake3))
        if recipe is None:
            continue
        old = before.get(one.raw)
        old_recipe = recipes.get(bytes.fromhex(old.blake3)) if old is not None else None
        ranges = _with_unread(
            _compared(recipe.placed_rows(), old_recipe.placed_rows() if old_recipe else None), item, number, one.raw
        )
        merged = _merged(ranges)
        totals = [
            NamedSize(
                kind, sum(1 for each in merged if each.kind == kind), sum(each.length for each in merged if each.kind == kind)
            )
            for kind in _KINDS
        ]
        compared = number - 1 if old_recipe is not None else None
        yield FileMap(path_pair(one.raw), one.size, compared, _coarser(merged, one.size), totals)


def _chosen(item: ItemLayout, number: int, damaged: Container[bytes]) -> list[_Large]:
    paths: set[int] = set()  # by their hashes: a choice of pictures, for which a rare mistake does not matter
    contents: set[int] = set()
    for one in _large(item, number - 1) if number > 1 else ():
        paths.add(hash(one.raw))
        contents.add(hash(one.blake3))

    def weight(one: _Large) -> tuple[bool, bool, bool, int]:
        is_new = hash(one.blake3) not in contents
        return one.raw in damaged, is_new and hash(one.raw) in paths, is_new, one.size

    return heapq.nlargest(MAX_REPORT_MAPS, _large(item, number), key=weight)


def _large(item: ItemLayout, number: int) -> Iterator[_Large]:
    for raw, line in read_published(item, number):
        if isinstance(line, Entry) and line.size is not None and line.size >= _SMALLEST and line.blake3 is not None:
            yield _Large(raw, line.size, line.blake3)


def _same_paths(item: ItemLayout, number: int, paths: set[bytes]) -> dict[bytes, _Large]:
    return {
        raw: _Large(raw, line.size or 0, line.blake3)
        for raw, line in read_published(item, number)
        if raw in paths and isinstance(line, Entry) and line.blake3 is not None
    }


def _find(item: ItemLayout, number: int, wanted: dict[bytes, int], stack: ExitStack) -> dict[bytes, Recipe]:
    """Recipes of contents: each lies where the content was first seen, in this acquisition or one before it."""
    found: dict[bytes, Recipe] = {}
    for earlier in range(number, 0, -1):
        if len(found) == len(wanted):
            break
        folder = stack.enter_context(opened_folder(item.acquisition(earlier)))
        file = stack.enter_context(opened_file(CHUNKS, folder))
        find_recipes(_reader(file), os.fstat(file.fileno()).st_size, wanted, found)
    return found


def _reader(file: BinaryIO) -> ReadAt:
    return lambda offset, length: os.pread(file.fileno(), length, offset)


def _compared(new: Iterator[PlacedRow], old: Iterator[PlacedRow] | None) -> Iterator[MapRange]:
    """Each chunk of `new`: zeros, or changed unless `old` has the same chunk at the same offset."""
    other = next(old, None) if old is not None else None
    for one in new:
        while old is not None and other is not None and other.offset < one.offset:
            other = next(old, None)
        kind: RangeKind = "data"
        if one.row.is_zeros:
            kind = "zero"
        elif old is not None and other != one:
            kind = "changed"
        yield MapRange(kind, one.offset, one.row.length)


def _with_unread(ranges: Iterator[MapRange], item: ItemLayout, number: int, raw: bytes) -> list[MapRange]:
    """The same, with the ranges of read errors cut out of what they lie in."""
    unread = sorted(
        (error.offset, error.offset + error.length)
        for path, line in read_published(item, number)
        if path == raw
        for error in line.read_errors or ()
    )
    if not unread:
        return list(ranges)
    cut: list[MapRange] = []
    for one in ranges:
        end = one.offset + one.length
        marks = sorted({one.offset, end} | {mark for extent in unread for mark in extent if one.offset < mark < end})
        for start, stop in pairwise(marks):
            bad = any(first <= start < last for first, last in unread)
            cut.append(MapRange("unreadable" if bad else one.kind, start, stop - start))
    return cut


def _merged(ranges: list[MapRange]) -> list[MapRange]:
    merged: list[MapRange] = []
    for one in ranges:
        if merged and merged[-1].kind == one.kind:
            merged[-1] = MapRange(one.kind, merged[-1].offset, merged[-1].length + one.length)
        else:
            merged.append(one)
    return merged


def _coarser(ranges: list[MapRange], size: int) -> list[MapRange]:
    """Reduces the ranges to the number that a document may hold. In each cell, the kind with the highest `rank` is kept."""
    if len(ranges) <= MAX_MAP_RANGES:
        return ranges
    step = max(size // MAX_MAP_RANGES, MIN_ZERO_RUN)
    cells: dict[int, RangeKind] = {}
    for one in ranges:
        for cell in range(one.offset // step, (one.offset + one.length - 1) // step + 1):
            cells[cell] = max(cells.get(cell, "data"), one.kind, key=rank)
    return _merged([MapRange(kind, cell * step, min(step, size - cell * step)) for cell, kind in sorted(cells.items())])


def rank(kind: RangeKind) -> int:
    """The importance of a kind of range, if only one kind can be shown."""
    return ("data", "zero", "changed", "unreadable").index(kind)
