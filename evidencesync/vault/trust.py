"""Reads and changes the vault's trusted signers, revoked keys and roles; each change is a signed record of the vault.

A record states the SHA-256 of all lists after the change, and commits the change. So a list that was edited by hand, or
replaced by an old one, is noticed by every reader, and a crash at any time leaves either the old state or the new one: see
`trust_drafts`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from hashlib import sha512
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import msgspec

from evidencesync.custody.documents import (
    CUSTODY_NAMESPACE,
    CustodyRecord,
    Person,
    RecordType,
)
from evidencesync.custody.principals import VAULT_PRINCIPAL
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.record import ABOUT_TRUST
from evidencesync.custody.roles import EVERYTHING, ROLES_FORMAT, USUAL, Grant, Roles, encode_roles
from evidencesync.custody.rule_of_two import TWO_PERSON, NeedsTwo, needs_two, parse_rule
from evidencesync.custody.sshsig import SigningKey, verify_signature
from evidencesync.custody.trust import (
    SEE_SIGNERS,
    TrustedSigner,
    TrustLists,
    who_is_meant,
)
from evidencesync.custody.trust_requests import ChangeOfTrust, SignedRequest, added, changed, retired, revoked
from evidencesync.errors import (
    ChainError,
    ChainGrewError,
    EvidenceSyncError,
    HeadMovedError,
    MissingOrExtraError,
    NeedsTwoError,
    NotThereError,
    SignatureError,
    TrustChangedError,
    UsageError,
)
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import format_utc_time, parse_utc_time
from evidencesync.files.disk import load_file, opened_folder
from evidencesync.limits import MAX_TRUST_FILE
from evidencesync.vault.edited_settings import name_two_person
from evidencesync.vault.key_files import are_key_files_in_place, remove_old_key, stated_key_files
from evidencesync.vault.layout import ROLES, VaultLayout
from evidencesync.vault.ledger import ChainHead, Ledger, RecordFile, recorded, sign_record
from evidencesync.vault.own_keys import OwnKeys
from evidencesync.vault.settings import VaultSettings
from evidencesync.vault.trust_drafts import (
    STATED_DIGESTS,
    complete_change,
    discard_drafts,
    left_drafts,
    load_stated,
    move_drafts,
    statements,
    write_drafts,
)
from evidencesync.vault.trust_lists import TrustFiles, administrators, with_retired, with_revoked, with_signer
from evidencesync.vault.writer import Machine, kind_of_vault, locked_for_writing, name_writer

if TYPE_CHECKING:
    from evidencesync.custody.two_people import Proposals


_PEOPLE: Final = 2
_ADMINISTRATORS: Final = (
    "Give the role to two at least, better to three, in every case: evidencesync trust change VAULT WHO --may "
    "acquire,custody,read,verify,admin"
)
_ATTEMPTS: Final = 5  # to read both lists in one state, while they may be changing


class KnownSigner(msgspec.Struct, frozen=True):
    """One trusted signer, for display. `grant`: what the key may do; `told`: whether somebody has said so of an examiner."""

    signer: TrustedSigner
    revoked: bool
    grant: Grant
    told: bool


class AskedFor(msgspec.Struct, frozen=True):
    """Who asked for a change, as its record states it, and the last record of the vault's own chain that they knew.

    `consented`: another person has proposed it.
    """

    head: ChainHead
    details: dict[str, str]
    consented: bool = False


def vault_record(settings: VaultSettings, ledger: Ledger, kind: RecordType, details: dict[str, str], at_ns: int) -> CustodyRecord:
    """Returns the next record of the vault's own chain, to be signed with the vault's key."""
    return record_upon(settings, settings.key, ledger.head(), kind, details, at_ns)


def record_upon(
    settings: VaultSettings, key: str, head: ChainHead, kind: RecordType, details: dict[str, str], at_ns: int
) -> CustodyRecord:
    """Returns the record of the vault's own chain that follows `head`, to be signed with its `key` (a fingerprint)."""
    return CustodyRecord(
        format="evidencesync-custody/1",
        vault_id=settings.id,
        sequence=head.sequence + 1,
        type=kind,
        time=format_utc_time(at_ns),
        case=None,
        item=None,
        actor=Person(name=settings.name, principal=VAULT_PRINCIPAL, key=key),
        previous_sha256=head.sha256,
        details=details,
    )


class TrustStore:
    """Reads and changes the signers that a vault trusts. Reading needs no lock and writes nothing."""

    def __init__(
        self,
        layout: VaultLayout,
        settings: VaultSettings,
        ledger: Ledger,
        own_keys: OwnKeys,
        load_signer: Callable[[], SigningKey],
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._own_keys = own_keys
        self._load_signer = load_signer
        self._ledger = ledger

    def load(self) -> TrustLists:
        """Returns the trusted signers. Raises TrustChangedError where a list is not the one that the vault's last record states.

        That is so where it is missing, too. Raises ChainError where no record states it.
        """
        return self._load_files().parse()

    def signers(self) -> list[KnownSigner]:
        """Lists all trusted signers in the order of the file, the vault's own key first."""
        trust = self.load()
        own, roles = self._own_keys.read().all, trust.roles
        return [
            KnownSigner(
                signer=signer,
                revoked=trust.revoked.refuses(signer.key),
                grant=trust.grant_of(signer.key),
                told=signer.key.fingerprint not in own and (roles is not None and roles.tells_of(signer.key.fingerprint)),
            )
            for signer in trust.signers.signers
        ]

    def add(self, key: PublicKey, principal: str, grant: Grant = USUAL, *, at_ns: int | None = None) -> None:
        """Trusts an examiner's key from now on, for sessions, manifests and custody records, for what `grant` says.

        Raises UsageError when the key is trusted already, was revoked or is the vault's own, and InvalidNameError or
        TrustFileError for a name that cannot be a signer's.
        """
        self.apply(added(key, principal, grant), at_ns=at_ns)

    def change(self, key: PublicKey, grant: Grant, *, at_ns: int | None = None) -> None:
        """Says anew what a trusted key may do from now on. What it did before stays as it was judged.

        Raises NotThereError for a key that is not trusted now, UsageError for the vault's own.
        """
        self.apply(changed(key.fingerprint, grant), at_ns=at_ns)

    def retire(self, key: PublicKey, *, at_ns: int | None = None) -> None:
        """Trusts a key until now and no longer: what it signed before stays valid.

        Raises NotThereError for a key that is not trusted now, UsageError for one that was revoked.
        """
        self.apply(retired(key.fingerprint), at_ns=at_ns)

    def revoke(self, key: PublicKey, reason: str = "", *, at_ns: int | None = None) -> None:
        """Accepts nothing that a key has ever signed: for a key that was stolen. Raises UsageError."""
        self.apply(revoked(key, reason), at_ns=at_ns)

    def check(self, change: ChangeOfTrust) -> None:
        """Raises the error that `apply` would raise, and changes nothing."""
        self.edited(self._load_files(), change, _now(None))

    def apply(self, change: ChangeOfTrust, *, at_ns: int | None = None, asked: AskedFor | None = None) -> None:
        """Makes a change, and records it. `asked`: by whom it was asked for, from afar, and for which place of the chain.

        Raises NotThereError, UsageError, InvalidNameError, TrustFileError, NeedsTwoError, and HeadMovedError where the chain has
        gone on; for what needs two people, also what `name_two_person` raises.
        """
        now = _now(at_ns)
        details = {"action": change.action, **change.details, **(asked.details if asked is not None else {})}

        def edit(files: TrustFiles) -> TrustFiles:
            if not (asked is not None and asked.consented) and needs_two(files.rule(), change.action):
                raise NeedsTwoError(f"the vault demands two people for this ({','.join(files.rule())})")
            return self.edited(files, change, now)

        def name_rule(record: int) -> None:
            if change.action == TWO_PERSON:
                name_two_person(self._layout, parse_rule(change.details[TWO_PERSON]), record)

        self._change(edit, details, now, asked.head if asked is not None else None, name_rule)

    def note(self, details: dict[str, str], asked: AskedFor, *, at_ns: int) -> None:
        """Records what was asked for and changes nothing yet: a proposal, or that one was withdrawn. Raises HeadMovedError."""
        self._change(lambda files: files, {**details, **asked.details}, at_ns, asked.head)

    def rule(self) -> tuple[NeedsTwo, ...]:
        """Returns what needs two people now. Raises as `load` does."""
        return self._load_files().rule()

    def proposals(self) -> Proposals:
        """Returns what the records of the vault's own chain say of proposals, from its first record on.

        Raises ChainError, MissingOrExtraError, MalformedDocumentError.
        """
        from evidencesync.custody.two_people import Proposals  # hardly anybody needs it

        found = Proposals(frozenset(STATED_DIGESTS.values()))
        roles = self.load().roles
        if roles is None or roles.two_person is None:
            return found  # nobody has ever proposed anything
        for file in self._ledger.files():
            if file.kind in ABOUT_TRUST:
                stored = self._ledger.load(file)
                kept = SignedRequest.kept_in(stored.record.details)
                found.add(stored.record, stored.sha256, parse_utc_time(stored.record.time), kept)
        return found

    def edited(self, files: TrustFiles, change: ChangeOfTrust, at_ns: int) -> TrustFiles:
        """Returns the lists after a change, and writes nothing. Raises as `apply` does."""
        if change.action == "added":
            known = with_signer(files, change.public_key(), change.details["principal"], at_ns)
            return self._with_grant(known, change)
        if change.action == "two_person":
            return self._with_rule(files, parse_rule(change.details[TWO_PERSON]), at_ns)
        self._require_foreign(change.details["key"])
        if change.action == "revoked":
            return with_revoked(files, change.public_key())
        trust = files.parse()
        key = next((one.key for one in trust.signers.signers if one.key.fingerprint == change.key), None)
        if key is None:
            raise NotThereError(f"the key {change.key} is not trusted now", hint=SEE_SIGNERS)
        if change.action == "retired":
            return with_retired(files, key, at_ns)
        if trust.revoked.refuses(key) or trust.signers.is_retired(key):
            raise NotThereError(f"the key {change.key} is not trusted now", hint=SEE_SIGNERS)
        return self._with_grant(files, change)

    def _require_foreign(self, key: str) -> None:
        keys = self._own_keys.read()
        if key == keys.current:
            raise UsageError("that is the vault's own key", hint="To change it: evidencesync trust rotate-vault-key VAULT")
        if key in keys.all:
            raise UsageError(
                "that was the vault's own key, before it was changed",
                hint="What it signed in its time stays good, and what it signs now is refused already.",
            )

    def take_writing(self, machine: Machine, *, at_ns: int | None = None) -> None:
        """Makes a machine the only writer of the vault, and records it. The trusted signers stay as they are.

        vault.toml is written first: only the writing machine can add the record.
        """
        now = _now(at_ns)
        name_writer(self._layout, machine, now)
        details = {"action": "writer-taken", "machine": machine.id, "machine_name": machine.name}
        self._change(lambda files: files, details, now)

    def complete(self) -> bool:
        """Completes a change that was interrupted after its record; returns whether it had changed the vault's key.

        Raises as any change does.
        """
        with (
            locked_for_writing(self._layout, self._layout.custody, "the vault's custody chain", wait=True),
            opened_folder(self._layout.root) as root,
        ):
            files = self._stated_files(root)
            was_left = not are_key_files_in_place(root, files)
            complete_change(root, files)
            return self._remove_old_key(root) or was_left

    def left_drafts(self) -> list[str]:
        """Lists drafts as `trust_drafts.left_drafts` does; none where the lists are not what was recorded."""
        locks_hold = kind_of_vault(self._layout).has_real_locks
        with contextlib.suppress(ChainError, SignatureError, MissingOrExtraError), opened_folder(self._layout.root) as root:
            return left_drafts(root, self._stated_files(root), locks_hold=locks_hold)
        return []

    def find(self, who: str) -> list[TrustedSigner]:
        """Returns the lines of a principal, or of a key by its fingerprint. Raises NotThereError when there is none."""
        found = [
            known.signer for known in self.signers() if who in known.signer.principals or who == known.signer.key.fingerprint
        ]
        if not found:
            hint = who_is_meant(who, (known.signer for known in self.signers()))
            raise NotThereError(f"the vault trusts no signer called '{safe_text(who, 80)}'", hint=hint)
        return found

    def _with_grant(self, files: TrustFiles, change: ChangeOfTrust) -> TrustFiles:
        """Says what a key may do. In a vault that was made before there were roles, its other keys may go on doing everything."""
        roles = self._roles(files).with_grant(change.details["key"], change.grant())
        return msgspec.structs.replace(files, roles=encode_roles(roles))

    def _with_rule(self, files: TrustFiles, rule: tuple[NeedsTwo, ...], at_ns: int) -> TrustFiles:
        if files.rule() == rule:
            raise UsageError(f"nothing is to change: {','.join(rule) or 'nothing'} needs two people already")
        if rule and len(administrators(files.parse(), at_ns)) < _PEOPLE:
            raise UsageError("fewer than two people may administer, and so nobody could consent", hint=_ADMINISTRATORS)
        return msgspec.structs.replace(files, roles=encode_roles(msgspec.structs.replace(self._roles(files), two_person=rule)))

    def _roles(self, files: TrustFiles) -> Roles:
        return files.parse().roles or Roles(ROLES_FORMAT, self._settings.id, EVERYTHING, {})

    def _change(
        self,
        edit: Callable[[TrustFiles], TrustFiles],
        details: dict[str, str],
        at_ns: int,
        upon: ChainHead | None = None,
        then: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.record_change("trust-changed", edit, details, at_ns, upon=upon, then=then)

    def record_change(
        self,
        kind: RecordType,
        edit: Callable[[TrustFiles], TrustFiles],
        details: dict[str, str],
        at_ns: int,
        new_key_files: Mapping[str, bytes] = MappingProxyType({}),
        upon: ChainHead | None = None,
        then: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Changes the lists, and with them the vault's key files, by one record of the vault; returns its number.

        `edit` may raise: then nothing has changed. `upon`: the record that it must follow. `then`: what is done last, under the
        same lock, with the record's number. Raises HeadMovedError, as `load` does, and what appending to the chain raises.
        """
        with (
            locked_for_writing(self._layout, self._layout.custody, "the vault's custody chain", wait=True),
            opened_folder(self._layout.root) as root,
        ):
            drafts: dict[str, str] = {}
            signed: list[tuple[bytes, bytes]] = []

            def sign(head: ChainHead) -> tuple[bytes, bytes]:
                signed.clear()
                if upon is not None and head != upon:
                    raise HeadMovedError(f"the vault's own chain ends with record {head.sequence} now, not with {upon.sequence}")
                discard_drafts(root, drafts)  # of an attempt whose record came too late
                files = self._stated_files(root)  # read after the head: a change in between makes this record fail
                complete_change(root, files)
                changed = edit(TrustFiles.of(files))
                changed.parse()
                drafts.update(write_drafts(root, files, {**changed.by_name(), **new_key_files}))
                signer = self._load_signer()  # of this head: the record before may have changed the key
                key = signer.public_key.fingerprint
                record = record_upon(self._settings, key, head, kind, details | changed.digests(), at_ns)
                signed.append(sign_record(record, signer))
                return signed[-1]

            try:
                added = self._ledger.append_upon_head(sign)
            except EvidenceSyncError as error:
                # A record that was begun states these drafts, and the next writer completes it: then they must stay.
                late = isinstance(error, ChainGrewError)
                if late or not (signed and self._ledger.may_be_completed(*signed[-1])):
                    with contextlib.suppress(EvidenceSyncError):
                        discard_drafts(root, drafts)
                raise
            with recorded(added.sequence):
                move_drafts(root, drafts)
                self._remove_old_key(root)
            then(added.sequence)
        return added.sequence

    def _remove_old_key(self, root_fd: int) -> bool:
        """Removes the private key before the current one where an agent holds that: no file takes its place."""
        keys = self._own_keys.read()
        return bool(keys.changes) and self._own_keys.is_in_agent() and remove_old_key(root_fd, keys)

    def _stated_files(self, root_fd: int) -> dict[str, bytes]:
        """Returns the lists as the last record states them, and the files of the key that is the vault's."""
        return self._load_files().by_name() | stated_key_files(root_fd, self._own_keys.read().current)

    def _load_files(self) -> TrustFiles:
        """Reads both lists as the last record states them; again where a change came between the two reads."""
        for _ in range(_ATTEMPTS - 1):
            with contextlib.suppress(ChainError, MissingOrExtraError, TrustChangedError):
                return self._load_files_once()
        return self._load_files_once()

    def _load_files_once(self) -> TrustFiles:
        found: dict[str, bytes] = {}
        stated = statements(self._details_of_changes())
        with opened_folder(self._layout.root) as root:
            for name, (sha256, *before) in stated.items():
                if name != ROLES or sha256 is not None:
                    found[name] = load_stated(root, name, sha256, before)
                elif load_file(root, ROLES, MAX_TRUST_FILE) is not None:
                    raise TrustChangedError(f"no record of the vault's own chain states its {ROLES}")
        return TrustFiles.of(found)

    def _details_of_changes(self) -> list[dict[str, str]]:
        """Returns the details of records about trust, from the last one back to the one before the last that states roles."""
        files = [file for file in self._ledger.files() if file.kind in ABOUT_TRUST]
        if not files:
            raise ChainError("the vault's custody chain has no record of who is trusted")
        details: list[dict[str, str]] = []
        for file in reversed(files):
            details.append(self._details(file))
            if len(details) > 1 and STATED_DIGESTS[ROLES] in details[-2]:
                break
        return details

    def _details(self, file: RecordFile) -> dict[str, str]:
        stored = self._ledger.load(file)
        key = verify_signature(stored.signature, CUSTODY_NAMESPACE, sha512(stored.data).digest())
        if key.fingerprint != self._own_keys.read().at(file.sequence) or stored.record.vault_id != self._settings.id:
            raise SignatureError("the record of who is trusted is not signed by this vault's key")
        return stored.record.details


def _now(at_ns: int | None) -> int:
    return time.time_ns() if at_ns is None else at_ns
