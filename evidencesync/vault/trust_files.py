"""How the vault's two lists of keys change on disk, so that what a record states is never lost, with or without locks.

A new list is written beside the old one as a *draft*, `.new-NAME-RANDOM`, and takes its place when the record that states it is
in the chain. Each draft moves by one rename, which happens once: who finds it gone knows that another one has moved it.

1. Whoever changes a list first settles the last change: what the last record states is in its place, and no draft of the same
bytes is left. Only then can his own record follow.  2. Whoever wrote a draft moves that one alone. So the list of an older record
never comes after that of a later one, however slow its writer was.

Drafts of a change that was cut short before its record stay until the next change, and for an hour at least: without locks
nobody knows whether their writer is still at work.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from evidencesync.errors import ChainError, EvidenceSyncError
from evidencesync.evidence.digest import sha256_of
from evidencesync.files.disk import load_file, load_own_file, remove_if_there, store_new_file, storing, sync_folder, tidy_away
from evidencesync.files.folders import names_in
from evidencesync.limits import MAX_TRUST_FILE
from evidencesync.vault.interrupted import TEMPORARY, Standing, is_draft, standing, temporary_name
from evidencesync.vault.layout import REVOKED_KEYS, TRUSTED_SIGNERS

_MODE: Final = 0o644
_PATIENCE_SECONDS: Final = 3600  # by the file system's own clock
_FILES: Final = (TRUSTED_SIGNERS, REVOKED_KEYS)


def load_stated(root_fd: int, name: str, sha256: str | None, before: str | None) -> bytes:
    """A list's bytes as the last record states them: in its place, or in a draft beside the one `before` it."""
    drafts = [load_own_file(root_fd, draft, MAX_TRUST_FILE) for draft in _drafts_of(root_fd, name)]
    there = load_file(root_fd, name, MAX_TRUST_FILE)
    beside = next((data for data in drafts if data is not None and sha256_of(data).hex() == sha256), None)
    found = [None if data is None else sha256_of(data).hex() for data in (there, beside)]
    match standing(found[0], found[1], sha256, () if before is None else (before,)):
        case Standing.SETTLED if there is not None:
            return there
        case Standing.COMMITTED if beside is not None:
            return beside
    raise ChainError(
        f"{name} is not what the vault's custody chain says it is",
        hint="It was changed without a record. Put it back from a backup; changes are made with: evidencesync trust",
    )


def settle_files(root_fd: int, files: Mapping[str, bytes]) -> None:
    """Ends the last change: lists that its record states are in their places, and no draft of the same bytes is left."""
    for name, data in files.items():
        for draft in _drafts_of(root_fd, name):
            if load_own_file(root_fd, draft, MAX_TRUST_FILE) != data:
                continue
            with storing(f"write {name}"):
                if load_file(root_fd, name, MAX_TRUST_FILE) != data:
                    _move(root_fd, draft, name)
                remove_if_there(root_fd, draft)
    sync_folder(root_fd, "the vault's folder")


def lay_beside(root_fd: int, files: Mapping[str, bytes], changed: Mapping[str, bytes]) -> dict[str, str]:
    """Writes drafts of the lists that change, durably, and gives their names; old ones that no record states are removed."""
    made: dict[str, str] = {}
    try:
        for name in _FILES:
            if changed[name] == files[name]:
                continue
            draft = temporary_name(f"{name}-")
            made[name] = draft  # first: a file that could be made and not filled is one, too
            store_new_file(root_fd, draft, changed[name], mode=_MODE)
            _remove_old(root_fd, name, draft)
        sync_folder(root_fd, "the vault's folder")
    except EvidenceSyncError:
        discard_drafts(root_fd, made)
        raise
    return made


def discard_drafts(root_fd: int, drafts: dict[str, str]) -> None:
    """Removes drafts of ours that no record states."""
    with storing("tidy the vault's folder"):
        for draft in drafts.values():
            remove_if_there(root_fd, draft)
    drafts.clear()


def put_in_place(root_fd: int, drafts: Mapping[str, str]) -> None:
    """Moves drafts into their places, now that a record states them. Somebody else may have done it."""
    for name, draft in drafts.items():
        with storing(f"write {name}"):
            _move(root_fd, draft, name)
    sync_folder(root_fd, "the vault's folder")


def _move(root_fd: int, draft: str, name: str) -> None:
    try:
        os.rename(draft, name, src_dir_fd=root_fd, dst_dir_fd=root_fd)
    except FileNotFoundError:
        return  # moved already, by somebody who settled the change


def _drafts_of(root_fd: int, name: str) -> list[str]:
    return sorted(found for found in names_in(root_fd) if is_draft(found, name))


def _remove_old(root_fd: int, name: str, mine: str) -> None:
    with storing("tidy the vault's folder"):
        now = os.stat(mine, dir_fd=root_fd, follow_symlinks=False).st_mtime
        for draft in _drafts_of(root_fd, name):
            try:
                found = os.stat(draft, dir_fd=root_fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if draft == TEMPORARY + name or found.st_mtime < now - _PATIENCE_SECONDS:
                tidy_away(root_fd, draft)
