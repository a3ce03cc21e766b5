"""Checks the vault itself: its settings, its key, and its own chain (checks 1 and 2). Trusted signers: see `verify.trusted`."""

from __future__ import annotations

import os
import stat
from typing import Final

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.record import decode_record, demands_low_s
from evidencesync.custody.roles import RoleHistory
from evidencesync.custody.sshsig import verify_signature
from evidencesync.errors import LaterFormatError, MalformedDocumentError, SignatureError
from evidencesync.evidence.digest import sha512_of
from evidencesync.limits import MAX_PUBLIC_KEY, MAX_RECORD, MAX_SIGNATURE, MAX_VAULT_TOML
from evidencesync.vault.interrupted import is_draft
from evidencesync.vault.key_files import KEY_FILE_MODES, fingerprint_in
from evidencesync.vault.layout import (
    CASES,
    CUSTODY,
    HOST_KEY,
    INDEX,
    REVOKED_KEYS,
    ROLES,
    SETTINGS,
    SIGNATURE_SUFFIX,
    TRUSTED_SIGNERS,
    VAULT_KEY,
    VAULT_KEY_PUBLIC,
)
from evidencesync.vault.settings import VaultSettings, parse_settings
from evidencesync.vault.vault import FIRST_RECORD, Identity, recorded_identity
from evidencesync.verify.chains import ChainReader
from evidencesync.verify.checks import Check
from evidencesync.verify.context import Context, VaultIdentity
from evidencesync.verify.documents import CheckedFolder, reason
from evidencesync.verify.findings import Head
from evidencesync.verify.stated_heads import take_statements
from evidencesync.verify.trusted import names_beside

_FOREIGN_BITS: Final = 0o077
_KNOWN: Final = (
    SETTINGS,
    VAULT_KEY,
    VAULT_KEY_PUBLIC,
    HOST_KEY,
    f"{HOST_KEY}.pub",
    TRUSTED_SIGNERS,
    REVOKED_KEYS,
    ROLES,
    CUSTODY,
    CASES,
    INDEX,
)


def read_identity(root: CheckedFolder, custody: CheckedFolder | None) -> VaultIdentity | None:
    """Identifies the vault: by vault.toml, else (when that is damaged, which is a finding) by its first record. Else None.

    Where both can be read and differ, the record counts, if it has a valid signature by the key that it names: else one
    changed digit in vault.toml would make every document of the vault look foreign, and vault.toml alone look sound.
    """
    settings: VaultSettings | None = None
    data = root.load(SETTINGS, MAX_VAULT_TOML)
    if data is not None:
        try:
            settings = parse_settings(data)
        except MalformedDocumentError as error:
            root.report.report(Check.VAULT, "malformed-document", error.message, SETTINGS)
        except LaterFormatError as error:
            root.report.report(Check.VAULT, "later-format", error.message, SETTINGS)
    if settings is not None and settings.policy.lookup != settings.policy.lookup_scope:
        text = f"{SETTINGS} says lookup = {settings.policy.lookup!r}, which is treated as {settings.policy.lookup_scope!r}"
        root.report.report(Check.VAULT, "lookup-beyond-case", text, SETTINGS)
    if settings is None:
        first = _record(custody, FIRST_RECORD) if custody is not None else None
        return VaultIdentity(first.vault_id, first.actor.key) if first is not None else None
    stated = Identity.of(settings)
    recorded = _recorded(custody, stated) or stated
    if stated != recorded:
        root.report.report(Check.VAULT, "wrong-place", stated.other_than(recorded), SETTINGS)
    return VaultIdentity(*recorded)


def _recorded(custody: CheckedFolder | None, stated: Identity) -> Identity | None:
    if custody is None:
        return None
    data, _ = custody.load_quietly(FIRST_RECORD, MAX_RECORD)
    signature, _ = custody.load_quietly(FIRST_RECORD + SIGNATURE_SUFFIX, MAX_SIGNATURE)
    return recorded_identity(data, signature, stated)


def check_root(root: CheckedFolder) -> None:
    """Checks the names at the vault's root, and that others cannot read its private keys, nor drafts of them."""
    beside = names_beside(root)
    root.report_extras([*_KNOWN, *beside], "foreign-entry")  # drafts of lists: see `read_trust`
    for name in (VAULT_KEY, HOST_KEY, *(name for name in beside if is_draft(name, VAULT_KEY))):
        _check_private_key(root, name)
    if f"{HOST_KEY}.pub".encode() in root.names:
        root.holds(f"{HOST_KEY}.pub", "file")


def check_key_files(root: CheckedFolder, context: Context) -> None:
    """Checks that vault_key.pub is the vault's key. Call it when the vault's own chain was read, which says which key that is.

    While the key changes, or where that was interrupted, files of the new key lie beside those of the old one.
    """
    drafts = {name: of for name in names_beside(root) for of in KEY_FILE_MODES if is_draft(name, of)}
    for name in drafts:
        if root.has_now(name):
            text = "a change of the vault's key runs now, or was interrupted; the vault's own chain says which key counts"
            root.report.report(Check.PUBLISHING, "unfinished-change", text, name)
    line = root.load(VAULT_KEY_PUBLIC, MAX_PUBLIC_KEY)
    if line is None:
        return
    try:
        found = PublicKey.from_line(line.strip()).fingerprint
    except SignatureError as error:
        root.report.report(Check.VAULT, "malformed-document", f"{VAULT_KEY_PUBLIC}: {error.message}", VAULT_KEY_PUBLIC)
        return
    known = context.keys
    if found == known.keys.current or _is_to_change(root, found, context):
        return
    text = known.text(f"{VAULT_KEY_PUBLIC} is {found}, but the vault's key is {known.keys.current}")
    root.report.report(Check.VAULT, known.slug(), text, VAULT_KEY_PUBLIC)


def _is_to_change(root: CheckedFolder, found: str, context: Context) -> bool:
    """Whether the key before is still in its place, and the file of the current one lies beside it, as an interruption leaves it.

    Or it is a newer one, which a record names that came since the chain was read.
    """
    keys = context.keys.keys
    if found in keys.all[-2:-1]:
        drafts = (root.load_quietly(name, MAX_PUBLIC_KEY)[0] for name in root.names_now() if is_draft(name, VAULT_KEY_PUBLIC))
        if any(data is not None and fingerprint_in(VAULT_KEY_PUBLIC, data) == keys.current for data in drafts):
            return True
        line = root.load_quietly(VAULT_KEY_PUBLIC, MAX_PUBLIC_KEY)[0]  # moved since
        return line is not None and fingerprint_in(VAULT_KEY_PUBLIC, line) == keys.current
    return context.judge.is_renewed() and found == context.keys.keys.current


_PRIVATE: Final = {
    VAULT_KEY: "others can read the vault's private key (mode {mode:04o}), and sign as the vault",
    HOST_KEY: "others can read the server's private key (mode {mode:04o}), and pass for the vault's machine",
}


def _check_private_key(root: CheckedFolder, name: str) -> None:
    """Checks that others cannot read the file. It may be missing: a copy of a vault can be checked without it."""
    if name.encode() not in root.names or not root.holds(name, "file"):
        return
    try:
        mode = stat.S_IMODE(os.stat(name, dir_fd=root.fd, follow_symlinks=False).st_mode)
    except OSError as error:
        root.report.report(Check.MODES, "unreadable", f"{name}: {reason(error)}", name)
        return
    if mode & _FOREIGN_BITS:
        root.report.report(Check.MODES, "unsafe-mode", _PRIVATE.get(name, _PRIVATE[VAULT_KEY]).format(mode=mode), name)


def check_own_chain(context: Context, custody: CheckedFolder) -> ChainReader:
    """Checks the vault's own chain, and collects the heads of items' chains that it states."""
    chain = ChainReader(context, ChainSubject(context.identity.vault_id), Check.VAULT)
    chain.read_folder(custody, context.reaching())
    context.judge.roles.is_known = chain.tells_roles
    chain.finish()
    context.times_known = chain.times_known
    context.record_unread((None, None), chain.unread, chain.damaged)
    if chain.head is None and not chain.broken and chain.listed:
        custody.report.report(Check.VAULT, "missing-record", "the vault's own chain is empty: it began with its making")
    if chain.head is not None:
        context.heads.append(Head(None, None, *chain.head))
    if context.wanted_head in chain.digests.values():
        context.head_found = True
    context.digests[None, None] = chain.digests
    take_statements(context, custody.report, chain)
    context.stated_at_first = frozenset(context.stated_heads)
    return chain


def check_rule(root: CheckedFolder, history: RoleHistory) -> None:
    """Says where vault.toml tells another rule of what needs two people than the vault's own chain, which counts."""
    data, _ = root.load_quietly(SETTINGS, MAX_VAULT_TOML)
    try:
        stated = () if data is None else parse_settings(data).two_person or ()
    except (MalformedDocumentError, LaterFormatError):
        return  # reported when the vault was identified
    counts = history.two_person[-1].rule if history.two_person else ()
    if data is not None and history.is_known and stated != counts:
        text = f"{SETTINGS} says that {_or_nothing(stated)} needs two people; by the vault's own chain {_or_nothing(counts)} does"
        root.report.report(Check.VAULT, "rule-differs", f"{text}, and that counts", SETTINGS)


def _or_nothing(rule: tuple[str, ...]) -> str:
    return ",".join(rule) or "nothing"


def takes_low_s_only(custody: CheckedFolder | None, identity: VaultIdentity) -> bool:
    """Whether the vault's first record, signed by its own key, states that only low-s signatures are accepted."""
    first = _record(custody, FIRST_RECORD) if custody is not None else None
    return (
        custody is not None and first is not None and demands_low_s(first) and _is_signed_by(custody, FIRST_RECORD, identity.key)
    )


def _record(custody: CheckedFolder, name: str) -> CustodyRecord | None:
    """Reads a record without findings."""
    data, _ = custody.load_quietly(name, MAX_RECORD)
    try:
        return decode_record(data) if data is not None else None
    except MalformedDocumentError:
        return None  # reported when the chain is checked


def _is_signed_by(custody: CheckedFolder, name: str, key: str) -> bool:
    """Whether a record has a valid signature by the key with this fingerprint; without findings."""
    data, _ = custody.load_quietly(name, MAX_RECORD)
    signature, _ = custody.load_quietly(name + SIGNATURE_SUFFIX, MAX_SIGNATURE)
    if data is None or signature is None:
        return False
    try:
        return verify_signature(signature, CUSTODY_NAMESPACE, sha512_of(data)).fingerprint == key
    except SignatureError:
        return False  # reported when the chain is checked
