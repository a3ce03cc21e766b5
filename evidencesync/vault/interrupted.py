"""What a crash can leave behind in a vault, and nothing more: names and states that are excused, by whoever looks.

Whatever lies in a vault and is not one of these is no leftover of ours. Nothing here reads a file.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Final

from evidencesync.vault.layout import (
    ITEM_FOLDERS,
    SIGNATURE_SUFFIX,
    TIMESTAMP,
    TIMESTAMP_REQUEST,
    parse_record_file,
)

TEMPORARY: Final = ".new-"
"""What the name of a file begins with that is not whole yet."""
_CLAIM: Final = re.compile(r"\.new-([0-9]{4,6})-([1-9][0-9]{0,2})")
_UNNAMED: Final = re.compile(r"\.new-[0-9a-f]{16}")
_OF_TIMESTAMPS: Final = frozenset({TEMPORARY + TIMESTAMP, TEMPORARY + TIMESTAMP_REQUEST})


def temporary_name(before: str = "") -> str:
    """A name that nobody else uses, for a file that is not whole yet."""
    return f"{TEMPORARY}{before}{secrets.token_hex(8)}"


def claim_name(number: int, generation: int) -> str:
    """The name of a claim on a custody record's number (`vault.claims`)."""
    return f"{TEMPORARY}{number:04d}-{generation}"


def claimed_number(name: str) -> int | None:
    """The number that a file claims; None where it is no claim."""
    match = _CLAIM.fullmatch(name)
    return int(match[1]) if match is not None else None


def is_draft(name: str, of_list: str) -> bool:
    """Whether a file beside a list of keys is what it was to become. Earlier versions gave it no random part."""
    return name == TEMPORARY + of_list or (
        name.startswith(f"{TEMPORARY}{of_list}-") and _UNNAMED.fullmatch(name.replace(f"{of_list}-", "", 1)) is not None
    )


def left_by_append(names: Collection[str], last: int, *, of_item: bool) -> frozenset[str]:
    """Those names of a custody folder that were left by an append to a chain whose last record is `last`.

    An append claims the next number, then writes the signature of the record, then the record, each first under a temporary
    name. Whatever an earlier one left is removed before. So the claims are on that number, or on the last one; of records and
    signatures everything that is left is of one record, of the number that comes next, and its signature has one name. Earlier
    versions made temporary names of the record's. An item's folder may hold a half written timestamp as well. `names` may be
    those of a whole folder.
    """
    found: dict[tuple[int, str], set[str]] = {}
    for name in names:
        whole = name.removeprefix(TEMPORARY)
        record = parse_record_file(whole.removesuffix(SIGNATURE_SUFFIX))
        if record is not None and record[0] == last + 1 and (whole != name or name.endswith(SIGNATURE_SUFFIX)):
            found.setdefault(record, set()).add(name)
    left = {name for name in names if name in _OF_TIMESTAMPS} if of_item else set[str]()
    left |= {name for name in names if claimed_number(name) in (last, last + 1) or _UNNAMED.fullmatch(name) is not None}
    if len(found) == 1:
        (of_record,) = found.values()
        signatures = [name for name in of_record if name.endswith(SIGNATURE_SUFFIX)]
        unsigned = any(name.startswith(TEMPORARY) for name in signatures) and len(of_record) > 1
        if len(signatures) <= 1 and not unsigned:
            left |= of_record
    return frozenset(left)


def is_begun_item(kinds: Mapping[str, bool]) -> bool:
    """Whether an item's folder is one whose making was cut short. `kinds`: what is in it, and whether that is an empty folder."""
    made: Sequence[str] = ITEM_FOLDERS[: len(kinds)]
    return len(kinds) < len(ITEM_FOLDERS) and kinds.keys() == set(made) and all(kinds.values())


class FileState(Enum):
    """How a file that a record states the digest of stands: the file in its place, and what may lie beside it."""

    IN_PLACE = "it is the stated one"
    COMMITTED = "it is the one before; the stated one lies beside it, and was kept from taking its place"
    CHANGED = "it is neither"


def file_state(there: str | None, beside: str | None, stated: str | None, before: Collection[str]) -> FileState:
    """How a stated file stands, by digests: the file's own (None: not there), of the one beside it, the stated one.

    `before`: what earlier records stated. A change is committed by its record; only then the new file takes the place of the old
    one. So where the stated one lies beside, the old one must be there still: anything else was put there by somebody.
    """
    if stated is not None and there == stated:
        return FileState.IN_PLACE
    if stated is not None and beside == stated and there is not None and there in before:
        return FileState.COMMITTED
    return FileState.CHANGED
