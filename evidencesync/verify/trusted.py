"""Reads the vault's own lists of signers, revoked keys and roles, which must be those that its last record about them states.

A change is recorded first, and then the files take their places. So a reader may meet old files beside a new record, or the
other way round, while a change is made. Nothing is reported about the files before the record is confirmed to be still the last
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from evidencesync.custody.documents import CustodyRecord
from evidencesync.custody.record import ABOUT_TRUST, SIGNERS, SignedBy, decode_record
from evidencesync.custody.trust import RevokedKeys, TrustedSigners, TrustLists
from evidencesync.errors import MalformedDocumentError, TrustFileError
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.limits import MAX_RECORD, MAX_TRUST_FILE
from evidencesync.vault.interrupted import FileState, file_state, is_draft
from evidencesync.vault.key_files import KEY_FILE_MODES
from evidencesync.vault.layout import CUSTODY, REVOKED_KEYS, ROLES, TRUSTED_SIGNERS, parse_record_file, record_file
from evidencesync.vault.trust_drafts import STATED_DIGESTS, statements
from evidencesync.verify.chains import ChainReader
from evidencesync.verify.checks import Check
from evidencesync.verify.documents import CheckedFolder
from evidencesync.verify.findings import Head
from evidencesync.verify.stated_heads import take_statements

_MOST_LOOKS: Final = 100
"""How often both are read again because of a change in between: more changes than a person can make."""


@dataclass(frozen=True, slots=True)
class TrustBytes:
    """The vault's lists, as they are to be used: those in place, or drafts that an interrupted change left beside them.

    `record` is the number of the record that states them, `changed_ns` its time; 0 where none was found. `unread`: a list of
    keys, or the record, could not be read, so that it is unknown who is trusted. `roles`: None where there are none as stated.
    """

    trusted_signers: bytes | None
    revoked_keys: bytes | None
    roles: bytes | None = None
    record: int = 0
    changed_ns: int = 0
    unread: bool = False


def names_beside(root: CheckedFolder) -> list[str]:
    """Returns those listed names at the vault's root that drafts of the lists, and of the key's files, have."""
    names = sorted(raw.decode("utf-8", "replace") for raw in root.names)
    return [name for name in names if any(is_draft(name, one) for one in (*STATED_DIGESTS, *KEY_FILE_MODES))]


def read_trust(root: CheckedFolder, custody: CheckedFolder | None, vault_id: str, *, relied_on: bool) -> TrustBytes:
    """Reads the vault's lists of signers and of revoked keys, which must be those that its last record about them states.

    Where they differ, it is a finding (an error when they are `relied_on`), and the lists in place are used. A change that was
    interrupted after its record left the new list as a draft: then the draft is used. `custody` is listed again where the
    record may be new. Where the record cannot be read, the lists are not compared.
    """
    records = _last_records(custody, vault_id)
    lists = _load_lists(root, records)
    for _ in range(_MOST_LOOKS):
        if all(one.state is not FileState.CHANGED for one in lists) or custody is None or not custody.look_again():
            break
        before, records = records, _last_records(custody, vault_id)
        if records == before:
            break
        lists = _load_lists(root, records)
    for one in lists:
        if records.known and not one.unread:
            _report_state(root, one, relied_on=relied_on, is_stated=bool(records.newest))
    signers, revoked, roles = lists
    return TrustBytes(
        trusted_signers=signers.data,
        revoked_keys=revoked.data,
        roles=roles.data if records.known and roles.state is not FileState.CHANGED else None,
        record=records.newest[0].sequence if records.newest else 0,
        changed_ns=parse_utc_time(records.newest[0].time) if records.newest else 0,
        unread=not records.known or signers.unread or revoked.unread,
    )


def _report_state(root: CheckedFolder, found: _List, *, relied_on: bool, is_stated: bool) -> None:
    """Reports a list that is not the recorded one: also one that is gone, but where no record of it is there either."""
    name, report = found.name, root.report
    if found.state is FileState.CHANGED and (found.data is not None or is_stated):
        text = f"{name} is not what the vault's own chain says it is"
        report.report(Check.VAULT, "trust-changed" if relied_on else "trust-not-used", text, name)
    for beside, data in found.beside.items():
        if found.state is FileState.COMMITTED and data == found.data:
            text = f"a change of {name} was recorded, and the list has not taken its place yet: the recorded one counts"
            report.report(Check.PUBLISHING, "unfinished-change", text, beside)
        elif found.state is not FileState.CHANGED:
            text = f"a change of {name} runs now, or was interrupted, before it was recorded: nothing of it counts"
            report.report(Check.PUBLISHING, "unfinished-change", text, beside)
        elif found.data is not None:
            text = "a list beside one that was changed without a record: no interrupted change leaves that"
            report.report(Check.VAULT, "foreign-entry", text, beside)


def parse_trust(root: CheckedFolder, files: TrustBytes) -> TrustLists | None:
    """Parses the vault's lists; None after a finding."""
    if files.trusted_signers is None or files.revoked_keys is None:
        return None
    try:
        signers = TrustedSigners.parse(files.trusted_signers)
    except TrustFileError as error:
        root.report.report(Check.VAULT, "trust-file", error.message, TRUSTED_SIGNERS)
        return None
    try:
        return TrustLists(signers, RevokedKeys.parse(files.revoked_keys))
    except TrustFileError as error:
        root.report.report(Check.VAULT, "trust-file", error.message, REVOKED_KEYS)
        return None


@dataclass(frozen=True, slots=True)
class _Records:
    """Records about trust that could be read, the last one first, back to the one before the last that states roles.

    `known` is False where one that is there could not be read.
    """

    newest: tuple[CustodyRecord, ...] = ()
    known: bool = True


def _last_records(custody: CheckedFolder | None, vault_id: str) -> _Records:
    """Finds the last records. Their signatures and places are checked later."""
    if custody is None or not custody.listed:  # unreadable, or gone, which is a finding: nobody knows what was stated
        return _Records(known=False)
    files = sorted(filter(None, (parse_record_file(raw.decode("utf-8", "replace")) for raw in custody.names)), reverse=True)
    found: list[CustodyRecord] = []
    for sequence, kind in files:
        if kind not in ABOUT_TRUST:
            continue
        data, unread = custody.load_quietly(record_file(sequence, kind), MAX_RECORD)
        if unread:
            return _Records(known=False)
        try:
            record = decode_record(data) if data is not None else None
        except MalformedDocumentError:
            continue  # reported when the chain is checked
        if record is not None and record.vault_id == vault_id:
            found.append(record)
        if len(found) > 1 and STATED_DIGESTS[ROLES] in found[-2].details:
            break
    return _Records(tuple(found))


@dataclass(frozen=True, slots=True)
class _List:
    """One list as it was found. `data` is what is to be used; `unread`: a file in question could not be read.

    `beside`: the drafts of it, of interrupted or running changes.
    """

    name: str
    data: bytes | None
    beside: Mapping[str, bytes]
    state: FileState
    unread: bool


def _load_lists(root: CheckedFolder, records: _Records) -> list[_List]:
    stated = statements([one.details for one in records.newest])
    return [_load_list(root, name, values) for name, values in stated.items()]


def _load_list(root: CheckedFolder, name: str, values: list[str | None]) -> _List:
    """Reads a list in its place, then its drafts, and where neither is stated, the list again: it may have been moved.

    `values`: its digest by the last record that states it, and by the record before. No roles are as good as stated ones.
    """
    stated, *earlier = values or [None]
    may_lack = name == ROLES and (stated is None or None in earlier)
    data, _ = root.load_quietly(name, MAX_TRUST_FILE) if may_lack else (root.load(name, MAX_TRUST_FILE), False)
    drafts = [draft for draft in root.names_now() if is_draft(draft, name)]
    beside = {draft: one for draft in drafts if (one := _load_draft(root, draft)) is not None}
    new = next((one for one in beside.values() if _sha256(one) == stated), None)
    found = file_state(_sha256(data), _sha256(new), stated, earlier)
    if found is FileState.CHANGED:
        again, _ = root.load_quietly(name, MAX_TRUST_FILE)
        data = again if again is not None else data
        found = file_state(_sha256(data), _sha256(new), stated, earlier)
    if may_lack and data is None and found is FileState.CHANGED:
        if stated is None and not root.has_now(name):
            found = FileState.IN_PLACE
        else:
            root.load(name, MAX_TRUST_FILE)  # says what is wrong
    unread = root.report.is_unread(name) or (found is FileState.CHANGED and any(map(root.report.is_unread, drafts)))
    return _List(name, new if found is FileState.COMMITTED else data, beside, found, unread)


def _load_draft(root: CheckedFolder, draft: str) -> bytes | None:
    """Reads a draft. One that is gone by now was moved into place or discarded: nothing is reported."""
    data, _ = root.load_quietly(draft, MAX_TRUST_FILE)
    return root.load(draft, MAX_TRUST_FILE) if data is None and root.has_now(draft) else data


def _sha256(data: bytes | None) -> str | None:
    return sha256_of(data).hex() if data is not None else None


@dataclass(slots=True)
class TrustRenewal:
    """Reads the lists again, where a change was recorded since: a new signer may sign at once.

    `chain` is the vault's own, read up to some record; it is read on, so that the record of the change is checked like all
    others.
    """

    root: CheckedFolder
    chain: ChainReader
    record: int
    outside: TrustLists | None = None
    """Signers from outside, which no change replaces: then only what the keys may do is read again."""

    def __call__(self) -> TrustLists | None:
        """Returns the current lists; None where they have not changed."""
        if not self._has_gone_on():
            return None
        context = self.chain.context
        with self.root.peeked(CUSTODY) as custody:
            if custody is None:
                return None
            custody.report = self.root.report.inside(CUSTODY)
            self.chain.read_on(custody)
            take_statements(context, custody.report, self.chain)
            files = read_trust(self.root, custody, context.identity.vault_id, relied_on=self.outside is None)
        if self.chain.head is not None:
            context.heads[:] = [one for one in context.heads if one.case is not None]
            context.heads.insert(0, Head(None, None, *self.chain.head))
        context.judge.roles.is_known = self.chain.tells_roles
        parsed = self.outside or parse_trust(self.root, files)
        trust = parsed if files.record > self.record and not files.unread else None
        self.record = files.record
        if trust is not None:  # the clock has moved on since the run began
            context.judge.now_ns = max(context.judge.now_ns, files.changed_ns)
            context.judge.trust = trust
        self.chain.finish()
        return trust

    def _has_gone_on(self) -> bool:
        """Whether the vault's own chain has another record; without a listing, because it is called for every signature."""
        following = (self.chain.head[0] if self.chain.head is not None else 0) + 1
        names = [record_file(following, kind) for kind, by in SIGNERS.items() if by is SignedBy.VAULT]
        return any(self.root.has_file(f"{CUSTODY}/{name}") for name in names)
