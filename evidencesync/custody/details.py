"""Named details of a case and its item (make, serial number ...): stated in records, corrected by later records.

The names below are those that the guides ask for (SWGDE, NIST SP 800-86, ISO/IEC 27037); any other name is allowed as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from evidencesync.custody.documents import CustodyRecord, RecordType
from evidencesync.custody.typed import check_text
from evidencesync.errors import UsageError
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.limits import MAX_DETAIL_NAME, MAX_DETAILS, MAX_DETAILS_SIZE

CASE_DETAILS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "case_description": "what the case is about",
        "legal_authority": "warrant, order or consent under which it was acquired",
        "organisation": "whose case it is",
    }
)
ITEM_DETAILS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "description": "what the item is",
        "make": "manufacturer",
        "model": "model",
        "serial_number": "serial number",
        "capacity": "capacity, as its label or the device says",
        "seal_number": "number of the seal it is under",
        "location": "where it was found, or is",
        "storage": "where and how it is kept",
    }
)
DETAILS: Final[Mapping[str, str]] = MappingProxyType({**CASE_DETAILS, **ITEM_DETAILS})

OUTSIDE: Final = "outside_recipient"
"""Stated as `yes` by a hand-over to a person without a key that the vault trusts, who therefore cannot accept it."""
IN_PLACE_OF: Final = "in_place_of"
"""Stated by a hand-over by another person than the one who holds the item: the holder's principal."""
EVENT_NAMES: Final = frozenset(
    {
        OUTSIDE,
        IN_PLACE_OF,
        "source",
        "host",
        "folders_changed_while_read",
        "bytes_not_readable",
        "clock_set_seconds",
        "text",
        "record",
        "to",
        "reason",
        "mechanism",
        "condition",
    }
)
"""Names that records use to state what happened. They are reserved: no detail of an item may have one of them."""

STATING_TYPES: Final[frozenset[RecordType]] = frozenset({"acquired", "noted", "handed-over", "accepted"})
"""Types of records whose details are about the item. `corrected` corrects those of another record."""

_STRAY: Final = re.compile(r"[ -]+")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,5}")


class KnownDetail(msgspec.Struct, frozen=True):
    """The current value of a detail, and the number of the record that states it."""

    name: str
    value: str
    record: int


def detail_name(given: str) -> str:
    """Returns the name of a detail in its canonical spelling: `Serial number` is `serial_number`, an unknown name stays as it is.

    Raises UsageError.
    """
    name = given.strip()
    known = _STRAY.sub("_", name.lower())
    if known in DETAILS:
        return known
    if not name or len(name) > MAX_DETAIL_NAME or "=" in name or not is_clean(name):
        raise UsageError(
            f"not a name for a detail: {safe_text(given, 80)}",
            hint=f"A name has 1 to {MAX_DETAIL_NAME} characters, no '=' and no control characters.",
        )
    if known in EVENT_NAMES:
        raise UsageError(
            f"a record says something else under the name {safe_text(name)}", hint="Use another name for the detail."
        )
    return name


def make_details(given: list[tuple[str, str]], *, may_withdraw: bool = False) -> dict[str, str]:
    """Checks details and returns them as a record holds them, each name once. An empty value withdraws a detail, where allowed.

    Raises UsageError.
    """
    details: dict[str, str] = {}
    for given_name, value in given:
        name = detail_name(given_name)
        if name in details:
            raise UsageError(f"the detail {safe_text(name)} is given twice", hint="Give each detail once.")
        details[name] = check_text(value.strip(), f"the detail {safe_text(name)}", may_be_empty=may_withdraw)
    check_room(details)
    return details


def check_room(details: Mapping[str, str]) -> None:
    """Checks that a record has room for all that it is to state. Raises UsageError."""
    if len(details) > MAX_DETAILS:
        raise UsageError(f"{len(details)} details are given; a record has room for {MAX_DETAILS}")
    size = len(msgspec.json.encode(details))
    if size > MAX_DETAILS_SIZE:  # said before the source is read, and not by a vault at the end
        raise UsageError(f"the details take {size} bytes; a record has room for {MAX_DETAILS_SIZE}")


def record_number(record: CustodyRecord) -> int | None:
    """Returns the number of the record that this one answers or corrects; None where it names none in the canonical form."""
    text = record.details.get("record", "")
    return int(text) if _NUMBER.fullmatch(text) else None


class DetailsFold(msgspec.Struct):
    """Collects the details of a chain's records, added in order.

    For each name the last record that states it counts, with its corrections: a correction of an earlier record does not
    change what a later record states. A correction with an empty value withdraws what it corrects.
    """

    _stated: dict[int, dict[str, KnownDetail]] = msgspec.field(default_factory=dict)
    _root: dict[int, int] = msgspec.field(default_factory=dict)

    def add(self, record: CustodyRecord) -> None:
        """Adds the next record."""
        if record.type in STATING_TYPES:
            root = record.sequence
            self._stated[root] = {}
        elif record.type == "corrected":
            found = self._root.get(record_number(record) or 0)
            if found is None:
                return
            root = found
        else:
            return
        self._root[record.sequence] = root
        for name, value in record.details.items():
            if name not in EVENT_NAMES:
                self._stated[root][name] = KnownDetail(name, value, record.sequence)

    def known(self) -> list[KnownDetail]:
        """Returns all current details: the names that the guides ask for first, in their order, then the others by name."""
        found: dict[str, KnownDetail] = {}
        for details in self._stated.values():
            found.update(details)
        order = {name: at for at, name in enumerate(DETAILS)}
        ordered = sorted(found.values(), key=lambda one: (order.get(one.name, len(order)), one.name))
        return [one for one in ordered if one.value]
