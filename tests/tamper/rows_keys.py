"""The vault's own key, after it was changed: the record of the change, the files of the key, and what an old key signs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from evidencesync.vault.key_change import change_key
from evidencesync.vault.layout import record_file
from evidencesync.vault.ledger import sign_record
from evidencesync.vault.trust import record_upon
from tests.tamper.kinds import ANY
from tests.tamper.row import Change, Deed, Row, Table, after, gone, overwrite, put, signature_by
from tests.tamper.vault import Workshop

TABLE: Final = Table()
SOUND: Final = Table()
_KEY_FILES: Final = ("vault_key", "vault_key.pub", "trusted_signers")
OLD: Final = "as they were"
CHANGED, LATER, DRAFT = "custody/0022-key-changed.json", "custody/0023-heads.json", ".new-vault_key.pub-0123456789abcdef"


def rotated(shop: Workshop) -> None:
    """Changes the key; beside the vault lies what it had before."""
    kept = shop.folder / OLD
    kept.mkdir(exist_ok=True)
    for name in _KEY_FILES:
        put(kept / name, (shop.vault / name).read_bytes(), 0o600)
    vault = shop.open()
    change_key(vault, vault.keys.current)


def _change_of(shop: Workshop) -> Path:
    return max(shop.vault.glob("custody/*-key-changed.json"))


def _spoiled(change: Change, suffix: str = "") -> Deed:
    def do(shop: Workshop) -> None:
        file = Path(f"{_change_of(shop)}{suffix}")
        overwrite(file, change(file.read_bytes()))

    return do


def _signed_by(who: str) -> Deed:
    def do(shop: Workshop) -> None:
        document = _change_of(shop)
        overwrite(Path(f"{document}.sig"), signature_by(shop, document, who))

    return do


def _as_before(*names: str) -> Deed:
    def do(shop: Workshop) -> None:
        for name in names:
            place = shop.vault / name
            put(place, (shop.folder / OLD / name).read_bytes(), place.stat().st_mode & 0o777)

    return do


def _interrupted(shop: Workshop) -> None:
    """The record is there, and no file has taken its place yet."""
    for name in _KEY_FILES:
        place = shop.vault / name
        put(shop.vault / f".new-{name}-0123456789abcdef", place.read_bytes(), place.stat().st_mode & 0o777)
    _as_before(*_KEY_FILES)(shop)


def _never_was(shop: Workshop) -> None:
    """A new key was written, and its record was not."""
    for name, mode in (("vault_key", 0o600), ("vault_key.pub", 0o644)):
        put(shop.vault / f".new-{name}-0123456789abcdef", (shop.other / name).read_bytes(), mode)


def _old_key_signs_on(shop: Workshop) -> None:
    """Whoever has the old key adds a record to the vault's own chain."""
    vault = shop.open()
    old = vault.signer
    rotated(shop)
    vault = shop.open()
    head = vault.ledger.head()
    data, signature = sign_record(record_upon(vault.settings, old.public_key.fingerprint, head, "heads", {}, time.time_ns()), old)
    name = record_file(head.sequence + 1, "heads")
    put(shop.vault / "custody" / name, data)
    put(shop.vault / "custody" / f"{name}.sig", signature)


def _chain_goes_on(shop: Workshop) -> None:
    shop.must("trust", "change", shop.vault, "ana@lab", "--may", "acquire,custody,read,verify,admin")


def _fill() -> None:
    add = TABLE.add
    for kind, change in ANY.items():
        add(f"a change of the vault's key {kind}", Row(after(rotated, _spoiled(change)), 32, "malformed-document", CHANGED))
        signature = after(rotated, _spoiled(change, ".sig"))
        add(f"the signature of a change of the vault's key {kind}", Row(signature, 32, "bad-signature", f"{CHANGED}.sig"))
    for who in ("mallory", "ana", "vault"):
        name = "its own new key" if who == "vault" else who
        add(f"a change of the vault's key signed by {name}", Row(after(rotated, _signed_by(who)), 32, "", ""))
    add("a change of the vault's key removed", Row(after(rotated, gone("custody/*-key-changed.json*")), 32, "", ""))
    later = after(rotated, _chain_goes_on, gone("custody/*-key-changed.json*"))
    add("a change of the vault's key removed, with others after it", Row(later, 34, "missing-record", "custody"))
    unsigned = after(rotated, gone("custody/*-key-changed.json.sig"))
    add("a change of the vault's key without its signature", Row(unsigned, 31, "missing-document", f"{CHANGED}.sig"))
    add(
        "the vault's public key of before its change",
        Row(after(rotated, _as_before("vault_key.pub")), 32, "wrong-signer", "vault_key.pub"),
    )
    old_list = after(rotated, _as_before("trusted_signers"))
    add("the list of signers of before a change of key", Row(old_list, 32, "trust-changed", "trusted_signers"))
    add("a record that the vault's old key signs later", Row(_old_key_signs_on, 32, "wrong-signer", LATER))
    SOUND.add("the vault's key was changed", Row(rotated, 0))
    SOUND.add("the vault's key was changed twice", Row(after(rotated, rotated), 0))
    SOUND.add("the vault's key was changed, and its chain went on", Row(after(rotated, _chain_goes_on), 0))
    SOUND.add(
        "a change of the vault's key that was interrupted", Row(after(rotated, _interrupted), 0, "unfinished-change", DRAFT)
    )
    SOUND.add("a change of the vault's key that never was", Row(_never_was, 0, "unfinished-change", DRAFT))
    SOUND.add("a copy without the vault's private key, after a change", Row(after(rotated, gone("vault_key")), 0))


_fill()
