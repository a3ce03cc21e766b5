"""Opens a vault: the folder that keeps evidence for many cases."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.documents import CUSTODY_NAMESPACE
from evidencesync.custody.record import demands_low_s
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.trust import TrustLists
from evidencesync.errors import ChainError, NotThereError, VaultNotFoundError
from evidencesync.evidence.digest import sha512_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import ItemName
from evidencesync.files.disk import FOLDER_FLAGS, load_file, opened_folder, storage_error
from evidencesync.limits import MAX_VAULT_TOML
from evidencesync.vault.catalog import SEE_LIST, case_folders, make_item_folders, require_item_folders, stored_names
from evidencesync.vault.identity import require_own_settings
from evidencesync.vault.index.index import Index
from evidencesync.vault.item import VaultItem
from evidencesync.vault.keys import VaultSigner, load_vault_key
from evidencesync.vault.layout import SETTINGS, VaultLayout
from evidencesync.vault.ledger import Ledger, RecordFile
from evidencesync.vault.record_signers import is_signed_by_vault, is_signed_for_item
from evidencesync.vault.reservations import NewRecord
from evidencesync.vault.settings import VaultSettings, parse_settings
from evidencesync.vault.trust import TrustStore
from evidencesync.vault.writer import require_writer


class Vault:
    """An open vault. Has no lock and no descriptor; its key is loaded at the first use."""

    def __init__(self, layout: VaultLayout, settings: VaultSettings) -> None:
        self.layout = layout
        self.settings = settings
        self.ledger = Ledger(layout.custody, lambda new: is_signed_by_vault(new, settings.id, settings.key))
        self.trust = TrustStore(layout, settings, lambda: self.signer)
        self._signer: VaultSigner | None = None
        self._low_s: bool | None = None

    @classmethod
    def open(cls, path: Path) -> Vault:
        """Opens a vault. Raises VaultNotFoundError for a folder that is not one, and what `parse_settings` raises.

        Raises WrongVaultError where vault.toml is not this vault's: all that is judged by it would look foreign, or forged.
        """
        shown = safe_text(str(path), 200)
        root = Path(os.path.realpath(path))
        try:
            fd = os.open(root, FOLDER_FLAGS)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                raise VaultNotFoundError(f"there is no vault at {shown}") from error
            raise storage_error(error, f"open the vault at {shown}") from error
        try:
            data = load_file(fd, SETTINGS, MAX_VAULT_TOML)
        finally:
            os.close(fd)
        if data is None:
            raise VaultNotFoundError(f"not a vault: {shown}")
        opened = cls(VaultLayout(root), parse_settings(data))
        require_own_settings(opened.layout, opened.settings)
        return opened

    @property
    def signer(self) -> VaultSigner:
        """The vault's own key. Raises SigningKeyError."""
        if self._signer is None:
            with opened_folder(self.layout.root) as root:
                self._signer = load_vault_key(root, self.settings.key)
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

        Raises NotThereError. Where the folders belong to other exact numbers, the item does not exist, and cannot be made
        (NameClashError).
        """
        if create:
            require_writer(self.layout)
            make_item_folders(self.layout, name)
        else:
            require_item_folders(self.layout, name)
        own = self.settings

        def may_sign(new: NewRecord) -> bool:
            subject = ChainSubject(own.id, name.case.text, name.item.text)
            return is_signed_for_item(new, subject, own.key, self.load_trust, low_s=self.low_s)

        item = VaultItem(own.id, own.key, name, self.layout, may_sign)
        if create:
            item.check_titles()
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
