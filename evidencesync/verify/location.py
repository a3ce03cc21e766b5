"""Names the byte ranges of damaged files, by the recipes of this acquisition and those before it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import BinaryIO

from evidencesync.errors import EvidenceSyncError, MalformedDocumentError
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import FOLDER_FLAGS
from evidencesync.limits import MIN_CHUNK
from evidencesync.vault.layout import DATA
from evidencesync.vault.tree import TreeReader
from evidencesync.verify.checks import Check
from evidencesync.verify.contents import Damage
from evidencesync.verify.damage import DamagedRange, RecipePlace, bounded, damaged_ranges, find_recipes
from evidencesync.verify.documents import CheckedFolder, reason


def report_damage(folder: CheckedFolder, damaged: list[Damage], recipes: dict[int, BinaryIO]) -> None:
    """A finding for each damaged range of each file of an acquisition. `recipes` are chunks.bin files; they are closed.

    Where no recipe is to be had, or the file is too short or too long, the range says what is known.
    """
    with ExitStack() as stack:
        for file in recipes.values():
            stack.enter_context(file)
        places = _find_all(recipes, {bytes.fromhex(one.file.blake3): one.file.size for one in damaged})
        try:
            reader = TreeReader(os.open(DATA, FOLDER_FLAGS, dir_fd=folder.fd))
        except OSError as error:
            folder.report.report(Check.CONTENTS, "unreadable", f"{DATA}: {reason(error)}", DATA)
            return
        stack.callback(reader.close)
        for one in damaged:
            place = places.get(bytes.fromhex(one.file.blake3))
            _report_file(folder, reader, one, place, recipes.get(place.acquisition) if place is not None else None)


def _find_all(files: dict[int, BinaryIO], wanted: dict[bytes, int]) -> dict[bytes, RecipePlace]:
    found: dict[bytes, RecipePlace] = {}
    for number, file in files.items():
        missing = {content: size for content, size in wanted.items() if content not in found}
        if not missing:
            break
        try:
            found.update(find_recipes(file, number, missing))
        except OSError:
            continue  # the damage is reported all the same, as the whole file
    return found


def _report_file(
    folder: CheckedFolder, reader: TreeReader, damage: Damage, place: RecipePlace | None, recipes: BinaryIO | None
) -> None:
    file = damage.file
    ranges, more, note = _ranges_of(reader, damage, place, recipes)
    shown = safe_text(file.path)
    name = DATA.encode() + b"/" + file.path
    if damage.size is not None and damage.size < file.size:
        text = f"{shown} was cut off: it has {damage.size} bytes of {file.size}"
        folder.report.report(Check.CONTENTS, "file-truncated", text, name, offset=damage.size, length=file.size - damage.size)
    elif damage.size is not None:
        text = f"{shown} was made longer: it has {damage.size} bytes, not {file.size}"
        folder.report.report(Check.CONTENTS, "file-extended", text, name, offset=file.size, length=damage.size - file.size)
    for one in ranges:
        text = f"{shown} is not what was acquired in bytes {one.offset} to {one.offset + one.length - 1}{note}"
        folder.report.report(Check.CONTENTS, "file-damaged", text, name, offset=one.offset, length=one.length)
    if more:
        folder.report.report(Check.CONTENTS, "file-damaged", f"{shown} has {more} more damaged ranges", name)


def _ranges_of(
    reader: TreeReader, damage: Damage, place: RecipePlace | None, recipes: BinaryIO | None
) -> tuple[list[DamagedRange], int, str]:
    """The damaged ranges, how many more there are, and what must be said about them."""
    file = damage.file
    whole = [DamagedRange(0, file.size)]
    by_digest_alone = damage.size is None
    if damage.digest == "SHA-256":
        return whole, 0, ": its BLAKE3 agrees with the manifest, but its SHA-256 does not"
    if place is None or recipes is None:
        note = " (no recipe is known, so the whole file is named)" if file.size > MIN_CHUNK else ""
        return (whole, 0, note) if by_digest_alone else ([], 0, "")
    try:
        fd, _ = reader.open_file(file.path)
    except EvidenceSyncError as error:
        return (whole, 0, f" ({error.message})") if by_digest_alone else ([], 0, "")
    try:
        there = file.size if damage.size is None else min(damage.size, file.size)
        ranges, more = bounded(damaged_ranges(recipes, place, bytes.fromhex(file.blake3), file.size, fd, there))
    except (OSError, MalformedDocumentError):
        return (whole, 0, " (its recipe cannot be used, so the whole file is named)") if by_digest_alone else ([], 0, "")
    finally:
        os.close(fd)
    if not ranges and by_digest_alone:
        return whole, 0, ", although every chunk of it is good now: it changes, or the disk does not read the same twice"
    return ranges, more, ""
