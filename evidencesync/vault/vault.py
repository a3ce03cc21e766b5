"""Opens a vault, the folder that keeps evidence for many cases: its settings, which must be its own, and its key.

vault.toml must say the same as the vault's first record, which the vault's first key has signed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.record import decode_record, demands_low_s
from evidencesync.custody.sshsig import SigningKey, verify_signature
from evidencesync.custody.trust import TrustLists
from evidencesync.custody.vault_keys import VaultKeys
from evidencesync.errors import (
    ChainError,
    EvidenceSyncError,
    MalformedDocumentError,
    MissingOrExtraError,
    NotThereError,
    SignatureError,
    StorageError,
    VaultNotFoundError,
    WrongVaultError,
)
from evidencesync.evidence.digest import sha512_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import ItemName
from evidencesync.files.disk import FOLDER_FLAGS, load_file, opened_folder, storage_error
from evidencesync.home import whose_place
from evidencesync.limits import MAX_RECORD, MAX_SIGNATURE, MAX_VAULT_TOML
from evidencesync.vault.absent import SEE_LIST, require_item_folders
from evidencesync.vault.catalog import case_folders, make_item_folders, require_no_link, stored_names
from evidencesync.vault.index.index import Index
from evidencesync.vault.item import VaultItem
from evidencesync.vault.key_files import load_agent_key, load_vault_key
from evidencesync.vault.layout import CASES, SETTINGS, SIGNATURE_SUFFIX, VaultLayout, record_file
from evidencesync.vault.ledger import Ledger, RecordFile
from evidencesync.vault.own_keys import OwnKeys
from evidencesync.vault.reservations import NewRecord, is_signed_by_vault, is_signed_for_item
from evidencesync.vault.settings import VaultSettings, parse_settings
from evidencesync.vault.trust import TrustStore
from evidencesync.vault.writer import require_writer

FIRST_RECORD: Final = record_file(1, "made")
_HINT: Final = "On the vault's machine: put vault.toml back from a backup. See what else is wrong: evidencesync verify VAULT"
_LOG: Final = logging.getLogger(__name__)


class Identity(NamedTuple):
    """A vault's id, and the fingerprint of its key."""

    vault_id: str
    key: str

    @classmethod
    def of(cls, settings: VaultSettings) -> Identity:
        """Returns what vault.toml states."""
        return cls(settings.id, settings.key)

    def other_than(self, recorded: Identity) -> str:
        """Says, for people, that vault.toml states this identity and the first record another one."""
        return (
            f"{SETTINGS} is of vault {self.vault_id} with the key {self.key}; "
            f"its first record of {recorded.vault_id} with the key {recorded.key}"
        )


def recorded_identity(data: bytes | None, signature: bytes | None, stated: Identity | None = None) -> Identity | None:
    """Returns the identity in a vault's first record; None unless the record has a valid signature by the key that it names.

    A record that agrees with what is `stated` needs no signature: then there is nothing to decide.
    """
    if data is None:
        return None
    try:
        record = decode_record(data)
        found = Identity(record.vault_id, record.actor.key)
        if found == stated:
            return found
        if signature is None or verify_signature(signature, CUSTODY_NAMESPACE, sha512_of(data)).fingerprint != found.key:
            return None
    except (MalformedDocumentError, SignatureError):
        return None  # reported when the chain is checked
    return found


def require_own_settings(layout: VaultLayout, settings: VaultSettings) -> None:
    """Raises WrongVaultError where vault.toml is another vault's, or names another key, as `verify` reports it.

    A first record that is missing, damaged or unreadable accuses nobody of that: who needs the chain finds it.
    """
    stated = Identity.of(settings)
    try:
        with opened_folder(layout.custody) as folder:
            data = load_file(folder, FIRST_RECORD, MAX_RECORD)
            signature = load_file(folder, FIRST_RECORD + SIGNATURE_SUFFIX, MAX_SIGNATURE)
    except (MalformedDocumentError, MissingOrExtraError, StorageError):
        return
    recorded = recorded_identity(data, signature, stated)
    if recorded is not None and recorded != stated:
        raise WrongVaultError(stated.other_than(recorded), hint=_HINT)


def _has_cases(root: Path) -> bool:
    """Whether there are cases in what may be a vault. A vault that is just being made, or was begun, has none."""
    with contextlib.suppress(OSError):
        return bool(os.listdir(root / CASES))
    return False


class Vault:
    """An open vault. Has no lock and no descriptor; its key is loaded at the first use."""

    def __init__(self, layout: VaultLayout, settings: VaultSettings) -> None:
        self.layout = layout
        self.settings = settings
        self.fetched = False
        """Whether this is a copy of the documents of a far vault. Who was sent them has proved a trusted key there."""
        self.ledger = Ledger(layout.custody, lambda new: is_signed_by_vault(new, settings.id, self.keys.at(new.record.sequence)))
        self._own_keys = OwnKeys(self.ledger, settings.id, settings.key)
        self.trust = TrustStore(layout, settings, self.ledger, self._own_keys, lambda: self.signer)
        self._signer: SigningKey | None = None
        self._low_s: bool | None = None

    @classmethod
    def open(cls, path: Path) -> Vault:
        """Opens a vault. Raises VaultNotFoundError for a folder that is not one, and what `parse_settings` raises.

        Raises MissingOrExtraError for one with cases whose vault.toml is missing: nobody should make another in its place.
        Raises WrongVaultError where vault.toml is not this vault's: all that is judged by it would look foreign, or forged.
        """
        shown = safe_text(str(path), 200)
        root = Path(os.path.realpath(path))
        try:
            fd = os.open(root, FOLDER_FLAGS)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                is_file = error.errno == errno.ENOTDIR
                text = f"a vault is a folder, which {shown} is not" if is_file else f"there is no vault at {shown}"
                raise VaultNotFoundError(text) from error
            refused = storage_error(error, f"open the vault at {shown}")
            if isinstance(error, PermissionError):
                refused.hint = f"Run this as who may read it: {whose_place(path)}."
            raise refused from error
        try:
            data = load_file(fd, SETTINGS, MAX_VAULT_TOML)
        finally:
            os.close(fd)
        if data is None and _has_cases(root):
            raise MissingOrExtraError(f"{SETTINGS} is missing in the vault at {shown}", hint=_HINT)
        if data is None:
            raise VaultNotFoundError(f"not a vault: {shown}")
        opened = cls(VaultLayout(root), parse_settings(data))
        require_own_settings(opened.layout, opened.settings)
        _LOG.info("opened the vault at %s, id %s, key %s", safe_text(str(root)), opened.settings.id, opened.settings.key)
        return opened

    @property
    def keys(self) -> VaultKeys:
        """The vault's keys, up to the current one. Raises ChainError, SignatureError and what reading its chain raises."""
        return self._own_keys.read()

    @property
    def shown_key(self) -> str:
        """The fingerprint of the current key, for display; of the first one where the vault's own chain cannot be followed."""
        with contextlib.suppress(EvidenceSyncError):
            return self.keys.current
        return self.settings.key

    def key_changes(self) -> list[tuple[bytes, bytes]]:
        """Returns the records that prove the current key to who knows an earlier one, with their signatures. Raises as `keys`."""
        return self._own_keys.changes()

    @property
    def signer(self) -> SigningKey:
        """The vault's own key, as it is now: in its file, or in an ssh-agent. Raises SigningKeyError, and as `keys` does."""
        current = self.keys.current
        if self._signer is None or self._signer.public_key.fingerprint != current:
            in_agent = self._own_keys.is_in_agent()
            with opened_folder(self.layout.root) as root:
                self._signer = load_agent_key(root, current) if in_agent else load_vault_key(root, current)
        return self._signer

    @property
    def low_s(self) -> bool:
        """Whether only signatures in low-s form are accepted; older vaults do not state it. Raises ChainError."""
        if self._low_s is None:
            made = self.ledger.load(RecordFile(1, "made"))
            key = verify_signature(made.signature, CUSTODY_NAMESPACE, sha512_of(made.data))
            if key.fingerprint != self.settings.key:
                raise ChainError("the first record of the vault is not signed by its key")
            self._low_s = demands_low_s(made.record)
        return self._low_s

    def load_trust(self) -> TrustLists:
        """Returns the signers that are trusted now. Raises TrustChangedError when the lists were changed without a record."""
        return self.trust.load()

    def item(self, name: ItemName, *, create: bool = False) -> VaultItem:
        """Returns an item by its exact case and item number; with `create`, missing folders are made.

        Raises NotThereError, and MissingOrExtraError where one of its folders is a symbolic link. Where the folders belong to
        other exact numbers, the item does not exist, and cannot be made (NameClashError).
        """
        require_no_link(self.layout, name.case.folder, name.item.folder)
        if create:
            require_writer(self.layout)
        else:
            require_item_folders(self.layout, name)
        own = self.settings

        def may_sign(new: NewRecord) -> bool:
            subject = ChainSubject(own.id, name.case.text, name.item.text)
            return is_signed_for_item(new, subject, self.keys.current, self.load_trust, low_s=self.low_s)

        item = VaultItem(own.id, lambda: self.keys.current, name, self.layout, may_sign)
        if create:
            item.check_titles()  # first: what is refused leaves no empty folders behind
            make_item_folders(self.layout, name)
        elif (other := item.whose_folders()) is not None:
            raise NotThereError(f"the vault has no item {name}: its folder is that of {other}", hint=SEE_LIST)
        return item

    def items(self) -> Iterator[ItemName]:
        """Yields the exact numbers of all items with an acquisition, by case folder, then by item folder."""
        for case in case_folders(self.layout):
            yield from stored_names(self.layout, case)

    def index(self) -> Index:
        """Returns the index; the caller closes it."""
        return Index(self.layout)
