"""Files at a vault's root that its own chain states: how a new one takes the place of the old one.

Of lists it states the digests, of the vault's key which one it is: what is said here of lists is so of its files, too. A new
list is written beside the old one as a *draft*, `.new-NAME-RANDOM`, and takes its place when the record that states it is in
the chain. A draft moves by one rename, which succeeds once: where it is missing, another process has moved it.

1. A process that changes a list first completes the last change: the lists that the last record states are in their places, and
no draft with the same bytes is left. Only then can the next record follow.
2. A process that wrote a draft moves only that one. So the list of an older record never replaces that of a later one, however
slow its writer is.

Drafts of a change that was interrupted before its record stay until the next change, and for an hour at least: without locks
it is unknown whether their writer is still at work.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from evidencesync.errors import EvidenceSyncError, MissingOrExtraError, TrustChangedError
from evidencesync.evidence.digest import sha256_of
from evidencesync.files.disk import (
    load_file,
    load_own_file,
    remove_if_there,
    store_new_file,
    storing,
    sync_folder,
    tidy_away,
)
from evidencesync.files.folders import names_in
from evidencesync.limits import MAX_TRUST_FILE
from evidencesync.vault.interrupted import TEMPORARY, FileState, file_state, is_draft, temporary_name
from evidencesync.vault.key_files import KEY_FILE_MODES, require_unexposed
from evidencesync.vault.layout import REVOKED_KEYS, ROLES, TRUSTED_SIGNERS, VAULT_KEY

STATED_DIGESTS: Final = {
    TRUSTED_SIGNERS: "trusted_signers_sha256",
    REVOKED_KEYS: "revoked_keys_sha256",
    ROLES: "roles_sha256",
}
"""The details of a record that state the lists. See `statements`."""
_MODE: Final = 0o644
_PLACES: Final = (TRUSTED_SIGNERS, REVOKED_KEYS, ROLES, *KEY_FILE_MODES)
_PATIENCE_SECONDS: Final = 3600  # by the file system's clock, so that two machines agree
_PUT_BACK: Final = "Put it back from a backup."


def load_stated(root_fd: int, name: str, sha256: str | None, before: Collection[str | None]) -> bytes:
    """Returns a list's bytes as the last record states them: in its place, or in a draft beside the one `before` it.

    `before`: the digest that the record before states, None where it states that there is no such file; empty without a record.
    """
    drafts = [load_own_file(root_fd, draft, MAX_TRUST_FILE) for draft in _drafts_of(root_fd, name)]
    try:
        there = load_file(root_fd, name, MAX_TRUST_FILE)
    except MissingOrExtraError as error:
        raise TrustChangedError(error.message, hint=_PUT_BACK) from error
    beside = next((data for data in drafts if data is not None and sha256_of(data).hex() == sha256), None)
    found = [None if data is None else sha256_of(data).hex() for data in (there, beside)]
    match file_state(found[0], found[1], sha256, before):
        case FileState.IN_PLACE if there is not None:
            return there
        case FileState.COMMITTED if beside is not None:
            return beside
    if there is None:
        raise TrustChangedError(f"{name} is missing in the vault's folder, and its own chain says what is in it", hint=_PUT_BACK)
    raise TrustChangedError(f"{name} is not what the vault's own chain says it is")


def complete_change(root_fd: int, files: Mapping[str, bytes]) -> None:
    """Completes the last change: moves the lists that its record states into place, and removes equal drafts."""
    for name, data in files.items():
        for draft in _drafts_of(root_fd, name):
            if load_own_file(root_fd, draft, MAX_TRUST_FILE) != data:
                continue
            with storing(f"write {name}"):
                if load_file(root_fd, name, MAX_TRUST_FILE) != data:
                    _move(root_fd, draft, name)
                remove_if_there(root_fd, draft)
    sync_folder(root_fd, "the vault's folder")


def write_drafts(root_fd: int, files: Mapping[str, bytes], changed: Mapping[str, bytes]) -> dict[str, str]:
    """Writes drafts of the lists that change, durably, and returns their names; old drafts that no record states are removed."""
    made: dict[str, str] = {}
    try:
        for name in _PLACES:
            if name not in changed or changed[name] == files.get(name):
                continue
            draft = temporary_name(f"{name}-")
            made[name] = draft  # before it is made, so that an incomplete file is removed as well
            store_new_file(root_fd, draft, changed[name], mode=KEY_FILE_MODES.get(name, _MODE))
            if name == VAULT_KEY:
                require_unexposed(root_fd, draft)
            _remove_old(root_fd, name, draft)
        sync_folder(root_fd, "the vault's folder")
    except EvidenceSyncError:
        discard_drafts(root_fd, made)
        raise
    return made


def discard_drafts(root_fd: int, drafts: dict[str, str]) -> None:
    """Removes drafts of this process that no record states."""
    with storing("tidy the vault's folder"):
        for draft in drafts.values():
            remove_if_there(root_fd, draft)
    drafts.clear()


def move_drafts(root_fd: int, drafts: Mapping[str, str]) -> None:
    """Moves drafts into their places, after a record states them. Another process may have done it already."""
    for name, draft in drafts.items():
        with storing(f"write {name}"):
            _move(root_fd, draft, name)
    sync_folder(root_fd, "the vault's folder")


def _move(root_fd: int, draft: str, name: str) -> None:
    try:
        os.rename(draft, name, src_dir_fd=root_fd, dst_dir_fd=root_fd)
    except FileNotFoundError:
        return  # moved already, by a process that completed the change


def _drafts_of(root_fd: int, name: str) -> list[str]:
    return sorted(found for found in names_in(root_fd) if is_draft(found, name))


def left_drafts(root_fd: int, stated: Mapping[str, bytes], *, locks_hold: bool) -> list[str]:
    """Lists drafts that a killed change left, and that nothing states. Call it under the lock under which lists are changed.

    Where locks do not hold between machines, one that was written within the last hour may be somebody's.
    """
    found = []
    with storing("look for drafts"):
        for name in _PLACES:
            for draft in _drafts_of(root_fd, name):
                written = os.stat(draft, dir_fd=root_fd, follow_symlinks=False)
                is_mine = locks_hold or written.st_mtime < time.time() - _PATIENCE_SECONDS
                if stat.S_ISREG(written.st_mode) and is_mine and not _takes_place(root_fd, draft, name, stated.get(name)):
                    found.append(draft)
    return found


def _takes_place(root_fd: int, draft: str, name: str, stated: bytes | None) -> bool:
    """Whether a draft is the recorded list, and is still to take its place."""
    data, there = load_own_file(root_fd, draft, MAX_TRUST_FILE, void=b""), load_file(root_fd, name, MAX_TRUST_FILE)
    return stated is not None and data == stated != there


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


def statements(newest_first: Sequence[Mapping[str, str]]) -> dict[str, list[str | None]]:
    """Returns, by list, the digest that counts now, and the one of the record before that one, if there is one.

    `newest_first`: the details of records about trust. None: there is no such list by that record. Roles count by the last
    record that states them, because earlier versions of evidencesync change the other lists alone.
    """
    found = {name: [one.get(detail) for one in newest_first] for name, detail in STATED_DIGESTS.items()}
    first = next((at for at, one in enumerate(found[ROLES]) if one is not None), 0)
    return {name: values[first if name == ROLES else 0 :][:2] for name, values in found.items()}
