"""The one machine that writes to a vault, where locks do not hold between machines.

`vault.toml` names it. A vault that names one is written by that one alone, wherever it lies by now: the file system that it was
made on may be seen as a local disk by its server, and as a network file system by all others.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Final

from evidencesync.errors import ConfigurationError, OtherWriterError, VaultNotFoundError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import format_moment
from evidencesync.files.disk import load_file, opened_folder, remove_if_there, store_new_file, storing, sync_folder
from evidencesync.files.lock import locked_folder
from evidencesync.limits import MAX_VAULT_TOML
from evidencesync.vault.interrupted import temporary_name
from evidencesync.vault.layout import CUSTODY, SETTINGS, VaultLayout
from evidencesync.vault.machine import FileSystemKind, Machine, kind_of_file_system, this_machine
from evidencesync.vault.settings import VaultSettings, Writer, encode_table, parse_settings

_MODE: Final = 0o644
_TABLE: Final = re.compile(r"\n*^\[writer\]\n(?:(?!\[).*\n?)*", re.MULTILINE)


def load_settings(root_fd: int) -> VaultSettings:
    """What vault.toml says now. Raises VaultNotFoundError, and what `parse_settings` does."""
    data = load_file(root_fd, SETTINGS, MAX_VAULT_TOML)
    if data is None:
        raise VaultNotFoundError(f"the vault has no {SETTINGS} any more")
    return parse_settings(data)


def kind_of_vault(vault: VaultLayout) -> FileSystemKind:
    """The file system of a vault: of whichever of its parts has no real locks, else of its own folder."""
    kinds = []
    for folder in (vault.root, vault.custody, vault.cases):
        with opened_folder(folder) as fd:
            kinds.append(kind_of_file_system(fd))
    return next((kind for kind in kinds if not kind.has_real_locks), kinds[0])


def require_writer(vault: VaultLayout, folder_fd: int | None = None) -> None:
    """Raises OtherWriterError unless this machine may write to the vault, and into the folder that is open.

    What vault.toml says at this moment counts: a session that began when this was the writing machine ends.
    """
    with opened_folder(vault.root) as root:
        writer = load_settings(root).writer
        kinds = [kind_of_file_system(fd) for fd in (root, folder_fd) if fd is not None]
    if writer is None:
        without = next((kind for kind in kinds if not kind.has_real_locks), None)
        if without is None:
            return
        raise OtherWriterError(
            f"the vault lies on {without.name}, where a lock does not hold between machines, and it names no writing machine",
            hint="On the one machine that is to write: evidencesync vault writer VAULT --take",
        )
    if writer.machine != this_machine().id:
        raise OtherWriterError(
            f"the machine that writes to this vault is {safe_text(writer.name, 64)}, since {writer.since}",
            hint="Write there. To move that here on purpose, when nothing writes there: evidencesync vault writer VAULT --take",
        )


@contextlib.contextmanager
def locked_for_writing(vault: VaultLayout, folder: os.PathLike[str], what: str, *, wait: bool = False) -> Iterator[int]:
    """The lock of a folder of the vault, for the machine that may write to it. Raises OtherWriterError, LockedError."""
    with locked_folder(folder, what, wait=wait) as fd:
        require_writer(vault, fd)
        yield fd


def name_writer(vault: VaultLayout, machine: Machine, at_ns: int) -> VaultSettings:
    """Writes into vault.toml, durably, that a machine writes from now on; all else in it stays as it is. Its settings then.

    Raises ConfigurationError where that cannot be done without changing anything else.
    """
    writer = Writer(machine=machine.id, name=machine.name, since=format_moment(at_ns))
    with opened_folder(vault.root) as root, opened_folder(CUSTODY, root) as custody:
        data = load_file(root, SETTINGS, MAX_VAULT_TOML) or b""
        before = parse_settings(data)
        text = _TABLE.sub("\n", data.decode("utf-8")).rstrip("\n") + "\n\n" + encode_table("writer", writer) + "\n"
        after = parse_settings(text.encode())
        if after != before.naming(writer):
            raise ConfigurationError(f"{SETTINGS} cannot be changed in one place alone", hint="Put its [writer] at its end.")
        draft = temporary_name()
        try:
            store_new_file(custody, draft, text.encode(), mode=_MODE)  # there a leftover of an interrupted change is known as one
            with storing(f"write {SETTINGS}"):
                os.rename(draft, SETTINGS, src_dir_fd=custody, dst_dir_fd=root)
        finally:
            with contextlib.suppress(OSError):
                remove_if_there(custody, draft)
        sync_folder(root, "the vault's folder")
    return after
