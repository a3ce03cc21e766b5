"""Changes vault.toml in one place, durably, and leaves all else in it as it is."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from typing import Final

import msgspec

from evidencesync.custody.rule_of_two import NeedsTwo
from evidencesync.errors import ConfigurationError, hinting
from evidencesync.files.disk import load_file, opened_folder, remove_if_there, store_new_file, storing, sync_folder
from evidencesync.limits import MAX_VAULT_TOML
from evidencesync.vault.interrupted import temporary_name
from evidencesync.vault.layout import CUSTODY, SETTINGS, VaultLayout
from evidencesync.vault.settings import VaultSettings, line_of_two, parse_settings

_MODE: Final = 0o644
_LINE_OF_TWO: Final = re.compile(r"^two_person = .*$", re.MULTILINE)
_FIRST_TABLE: Final = re.compile(r"^\[", re.MULTILINE)


def rewrite_settings(
    vault: VaultLayout, edit: Callable[[str], str], wanted: Callable[[VaultSettings], VaultSettings], where: str
) -> VaultSettings:
    """Changes the text of vault.toml, and returns the new settings. `where`: how a person makes that possible.

    Raises ConfigurationError where that is not possible without changing anything else than is `wanted`.
    """
    with opened_folder(vault.root) as root, opened_folder(CUSTODY, root) as custody:
        data = load_file(root, SETTINGS, MAX_VAULT_TOML) or b""
        before = parse_settings(data)
        text = edit(data.decode("utf-8"))
        after = parse_settings(text.encode())
        if after != wanted(before):
            raise ConfigurationError(f"{SETTINGS} cannot be changed in one place alone", hint=where)
        draft = temporary_name()
        try:
            store_new_file(custody, draft, text.encode(), mode=_MODE)  # in that folder leftovers are recognised
            with storing(f"write {SETTINGS}"):
                os.rename(draft, SETTINGS, src_dir_fd=custody, dst_dir_fd=root)
        finally:
            with contextlib.suppress(OSError):
                remove_if_there(custody, draft)
        sync_folder(root, "the vault's folder")
    return after


def name_two_person(vault: VaultLayout, rule: tuple[NeedsTwo, ...], record: int) -> None:
    """Says in vault.toml what needs two people, as a record of the vault's own chain states it, which counts.

    Raises ConfigurationError, StorageError; they say that the change is recorded.
    """
    line = line_of_two(rule)
    stated = f"Record {record} of the vault's own chain states the change, and it counts: do not make it again"
    hint = f"{stated}. Write into {SETTINGS}: {line}"

    def edited(text: str) -> str:
        if _LINE_OF_TWO.search(text):
            return _LINE_OF_TWO.sub(lambda _: line, text)
        return _FIRST_TABLE.sub(lambda _: f"{line}\n\n[", text, count=1)

    with hinting(hint), storing(f"write {SETTINGS}"):
        rewrite_settings(vault, edited, lambda before: msgspec.structs.replace(before, two_person=rule), hint)
