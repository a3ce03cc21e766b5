"""Decides whether a vault takes another acquisition of an item, and tells a reader beforehand what a push would meet.

Both ask the same rules. What is told beforehand holds nothing: another push, or another program, may use the room.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

import msgspec

from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.errors import (
    ChainError,
    EvidenceSyncError,
    InvalidNameError,
    NotThereError,
    ProtocolError,
    SealedError,
    StorageError,
)
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ingest.transfers import find_holder
from evidencesync.limits import MAX_FILE_SIZE, SPACE_RESERVE
from evidencesync.protocol.document_messages import RoomAsk, RoomShown
from evidencesync.protocol.failures import failure_of
from evidencesync.protocol.messages import ASKING_VERSION, Alike
from evidencesync.vault.alike import find_alike
from evidencesync.vault.catalog import is_folder, is_unfinished, shown_path
from evidencesync.vault.heads import state_as_stated
from evidencesync.vault.item import ItemState, VaultItem
from evidencesync.vault.layout import VaultLayout
from evidencesync.vault.space import UNKNOWN_ROOM, check_declared, check_space, free_bytes
from evidencesync.vault.vault import Vault
from evidencesync.vault.writer import require_writer

_TEXT: Final = 256
_NOT_WRITABLE: Final = (
    "On the vault's machine, see how its disk is mounted and whose the folder is (findmnt, ls -ld); "
    "push as the account that writes to the vault."
)


def check_room(vault: Vault, name: ItemName, least_bytes: int) -> None:
    """Refuses a new item that does not fit before its folders are made: an empty one would stay for ever.

    Where the case is there, some of the content may be: that is looked up later. Raises NoSpaceError.
    """
    layout = vault.layout
    if not is_folder(layout.item(name).root):
        check_space(layout.cases, 0)
        if not is_folder(layout.case(name.case.folder)):
            check_declared(layout.cases, least_bytes)


def require_open(vault: Vault, item: VaultItem) -> ItemState:
    """Returns the state of an item that takes another acquisition. Needs no lock, but what it says holds only under one.

    Raises SealedError, NameClashError, ChainError, SignatureError, StorageError, NoSpaceError, LimitExceededError.
    """
    item.check_titles()
    state = state_as_stated(vault, item)
    if state.sealed:
        raise SealedError(f"item {item.name} is sealed")
    check_space(item.layout.root, 0)
    return state


class PlannedPush(msgspec.Struct, frozen=True):
    """A push that somebody plans: under which name, of how many bytes at the least, and of which cases it may be told."""

    principal: str
    least_bytes: int = 0
    knows: Callable[[str], bool] = lambda _: True


def send_room(connection: SenderConnection, vault: Vault, ask: RoomAsk, planned: PlannedPush) -> None:
    """Answers the question. Raises ProtocolError for an impossible item, StorageError where the disk does not tell."""
    try:
        name = ItemName(Title(ask.case), Title(ask.item))
    except InvalidNameError as error:
        raise ProtocolError("the room of an impossible case or item is asked for") from error
    connection.send(show_room(vault, name, planned))


def show_room(vault: Vault, name: ItemName, planned: PlannedPush) -> RoomShown:
    """Looks at what a push would meet. Takes no lock, and writes nothing. Raises StorageError."""
    layout, refusal, acquisition = vault.layout, None, None
    try:
        acquisition = _next_acquisition(vault, name, planned.least_bytes)
    except EvidenceSyncError as error:
        refusal = failure_of(error, ASKING_VERSION)
    there = layout.item(name)
    knows_item = is_folder(there.root)
    free = free_bytes(there.root if knows_item else layout.cases)
    holder = find_holder(there)
    return RoomShown(
        principal=planned.principal,
        acquisition=acquisition,
        free=None if free >= UNKNOWN_ROOM else min(max(free - SPACE_RESERVE, 0), MAX_FILE_SIZE),
        knows_case=knows_item or is_folder(layout.case(name.case.folder)),
        holder=None if holder is None else holder[:_TEXT],
        alike=Alike(*find_alike(layout, name, planned.knows)),
        refusal=refusal,
    )


def _next_acquisition(vault: Vault, name: ItemName, least_bytes: int) -> int | None:
    """Returns the number that the next acquisition would get; None where a publish has yet to be completed by the push itself.

    Raises what a push would be refused with.
    """
    vault_key = vault.signer.public_key.fingerprint  # a push signs with it: it must be there, and this account may read it
    require_writer(vault.layout)
    _require_writable(vault.layout, name)
    check_room(vault, name, least_bytes)
    try:
        item = vault.item(name)
    except NotThereError:
        _require_free_folders(vault, vault_key, name)
        return 1
    with contextlib.suppress(ChainError):
        if is_unfinished(item.layout):
            return None
    return require_open(vault, item).next_acquisition


def _require_writable(vault: VaultLayout, name: ItemName) -> None:
    """Raises StorageError where this account may not write into the folder in which a push begins."""
    folders = (vault.item(name).incoming, vault.case(name.case.folder), vault.cases)
    begins = next(filter(is_folder, folders), vault.cases)
    if not os.access(begins, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        text = f"{shown_path(begins)} cannot be written: this account may not, or the file system is read-only"
        raise StorageError(text, hint=_NOT_WRITABLE)


def _require_free_folders(vault: Vault, vault_key: str, name: ItemName) -> None:
    """Raises NameClashError where the folders of a new item are those of another one."""
    VaultItem(vault.settings.id, lambda: vault_key, name, vault.layout, lambda _new: False).check_titles()
