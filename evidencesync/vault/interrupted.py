"""Names the files and states that a crash can leave in a vault; everything else is not excused.

Writers and `verify` use the same rules. Nothing here reads a file.
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
"""Prefix of the names of files that are not whole yet."""
_RESERVATION: Final = re.compile(r"\.new-([0-9]{4,6})-([1-9][0-9]{0,2})")
_UNNAMED: Final = re.compile(r"\.new-[0-9a-f]{16}")
_OF_TIMESTAMPS: Final = frozenset({TEMPORARY + TIMESTAMP, TEMPORARY + TIMESTAMP_REQUEST})


def temporary_name(before: str = "") -> str:
    """Returns a name that nobody else uses, for a file that is not whole yet."""
    return f"{TEMPORARY}{before}{secrets.token_hex(8)}"


def reservation_name(number: int, generation: int) -> str:
    """Returns the name of a reservation of a custody record's number (`vault.reservations`)."""
    return f"{TEMPORARY}{number:04d}-{generation}"


def reserved_number(name: str) -> int | None:
    """Returns the number that a file reserves; None where it is no reservation."""
    match = _RESERVATION.fullmatch(name)
    return int(match[1]) if match is not None else None


def is_draft(name: str, of_list: str) -> bool:
    """Whether a file beside a list of keys is a draft of that list. Earlier versions gave drafts no random part."""
    return name == TEMPORARY + of_list or (
        name.startswith(f"{TEMPORARY}{of_list}-") and _UNNAMED.fullmatch(name.replace(f"{of_list}-", "", 1)) is not None
    )


def left_by_append(names: Collection[str], last: int, *, of_item: bool) -> frozenset[str]:
    """Returns those names of a custody folder that an interrupted append may have left; `last` is the last record's number.

    An append reserves the next number, then writes the signature of the record, then the record, each first under a temporary
    name. It first removes what earlier appends left. So reservations are of that number, or of the last one; files of records
    and signatures are of one record, with the next number, and its signature has one name. Earlier versions derived temporary
    names from the record's name. An item's folder may also have an incomplete timestamp. `names` may be those of a whole
    folder.
    """
    found: dict[tuple[int, str], set[str]] = {}
    for name in names:
        whole = name.removeprefix(TEMPORARY)
        record = parse_record_file(whole.removesuffix(SIGNATURE_SUFFIX))
        if record is not None and record[0] == last + 1 and (whole != name or name.endswith(SIGNATURE_SUFFIX)):
            found.setdefault(record, set()).add(name)
    left = {name for name in names if name in _OF_TIMESTAMPS} if of_item else set[str]()
    left |= {name for name in names if reserved_number(name) in (last, last + 1) or _UNNAMED.fullmatch(name) is not None}
    if len(found) == 1:
        (of_record,) = found.values()
        signatures = [name for name in of_record if name.endswith(SIGNATURE_SUFFIX)]
        unsigned = any(name.startswith(TEMPORARY) for name in signatures) and len(of_record) > 1
        if len(signatures) <= 1 and not unsigned:
            left |= of_record
    return frozenset(left)


def is_begun_item(kinds: Mapping[str, bool]) -> bool:
    """Whether an item's folder was only partly made. `kinds`: the names in it, and whether each is an empty folder."""
    made: Sequence[str] = ITEM_FOLDERS[: len(kinds)]
    return len(kinds) < len(ITEM_FOLDERS) and kinds.keys() == set(made) and all(kinds.values())


class FileState(Enum):
    """The state of a file whose digest a record states: the file in its place, and a draft beside it."""

    IN_PLACE = "it is the stated one"
    COMMITTED = "it is the one before; the stated one lies beside it, and was kept from taking its place"
    CHANGED = "it is neither"


def file_state(there: str | None, beside: str | None, stated: str | None, before: Collection[str | None]) -> FileState:
    """Returns the state of a stated file, by digests: of the file (None: missing), of the draft beside it, and the stated one.

    `before`: what earlier records stated, None where they stated no such file. A record commits a change; only then the new file
    replaces the old one. So where the draft has the stated digest, the old file must still be there, or none if there was none:
    anything else was put there by somebody.
    """
    if stated is not None and there == stated:
        return FileState.IN_PLACE
    if stated is not None and beside == stated and there in before:
        return FileState.COMMITTED
    return FileState.CHANGED
