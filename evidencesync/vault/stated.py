"""Holds items' chains to the heads that others state of them: the vault's own chain, or what this machine remembers.

Commands that show what there is ask this before they show it: what was removed from a vault must not look as if it had never
been there. It is cheap and no verification: links and signatures are checked by `verify` alone. Read the statements first and
the chain afterwards: then a push that ends meanwhile adds to the chain, and nothing seems to be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from evidencesync.custody.record import decode_record
from evidencesync.errors import ChainError, ForkedError, RolledBackError, StorageError
from evidencesync.evidence.identity import is_folder_name
from evidencesync.files.disk import load_file, opened_folder
from evidencesync.limits import MAX_RECORD
from evidencesync.vault.catalog import is_folder
from evidencesync.vault.ledger import ChainHead, Ledger

OWN: Final = "the vault's own chain says"
SEEN: Final = "this machine has seen"
_HEAD: Final = re.compile(r"([0-9]{1,6}) ([0-9a-f]{64})")
_HINT: Final = "Records were removed, or an older copy was put back. See what else is wrong: evidencesync verify VAULT"


class StatedHead(NamedTuple):
    """A record that a chain had, by number and SHA-256, and who states it (`OWN`, `SEEN`)."""

    sequence: int
    sha256: str
    witness: str


Stated = Mapping[str, Iterable[StatedHead]]
"""By place (`CASE/ITEM`, the folders' names), what is stated of an item's chain."""


def parse_head(text: str) -> tuple[int, str] | None:
    """Returns number and digest as a `heads` record states them; None for any other text."""
    match = _HEAD.fullmatch(text)
    return (int(match[1]), match[2]) if match is not None else None


def stated_heads(own: Ledger) -> tuple[dict[str, set[StatedHead]], StorageError | None]:
    """Returns the highest head that the vault's own chain states of each item; two that contradict each other are both there.

    A record that the disk does not give is left out: the second value says so. Raises ChainError, MissingOrExtraError,
    MalformedDocumentError; StorageError where not even the folder can be listed.
    """
    found: dict[str, set[StatedHead]] = {}
    unread: StorageError | None = None
    files = [file for file in own.files() if file.kind == "heads"]
    with opened_folder(own.folder) as folder:
        for file in files:
            try:
                data = load_file(folder, file.name, MAX_RECORD)
            except StorageError as error:
                unread = error
                continue
            if data is None:
                raise ChainError(f"custody record {file.sequence} is missing")
            for place, text in decode_record(data).details.items():
                _keep_highest(found, place, text)
    return found, unread


def _keep_highest(found: dict[str, set[StatedHead]], place: str, text: str) -> None:
    case, _, item = place.partition("/")
    head = parse_head(text)
    if head is None or not head[0] or not is_folder_name(case) or not is_folder_name(item):
        return
    known = found.setdefault(place, set())
    highest = max((one.sequence for one in known), default=0)
    if head[0] > highest:
        known.clear()
    if head[0] >= highest:
        known.add(StatedHead(*head, OWN))


def require_stated(ledger: Ledger, whose: str, stated: Iterable[StatedHead]) -> ChainHead:
    """Returns the head of a chain that has every stated record. `whose` chain it is, for the message.

    Raises ChainError where one is missing or is another record, by the witness RolledBackError or ForkedError; and what
    `Ledger.files` and `Ledger.load` raise.
    """
    stated = sorted(stated)
    files = ledger.files() if not stated or is_folder(ledger.folder) else []
    head = ChainHead(len(files), ledger.load(files[-1]).sha256) if files else ChainHead(0, None)
    for one in reversed(stated):
        is_there = one.sequence <= len(files)
        if is_there and ledger.load(files[one.sequence - 1]).sha256 == one.sha256:
            continue
        ends = f"it ends with record {head.sequence}, {head.sha256}" if files else "it is gone"
        text = f"{one.witness} that record {one.sequence} of {whose} is {one.sha256}; {ends}"
        if one.witness == SEEN:
            raise (ForkedError if is_there else RolledBackError)(text, hint=_HINT)
        raise ChainError(text, hint=_HINT)
    return head
