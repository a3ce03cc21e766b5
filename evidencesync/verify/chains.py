"""Reads a custody chain from its folder, and checks every record, alone and in its place.

1. Names: records and their signatures, numbered without a gap, and nothing else.
2. Each record is in the strict form, names the digest of the record before it, and its type may be at its place.
3. Each is signed by a key that may sign its type.
4. That key was trusted: at the time when the vault next signed for something received, or for the chain's head: by then the
record existed; else now.
5. What records state about each other is right: hand-overs and acceptances, corrections.

A record that cannot be read is not reported as missing, and is not used against other records: no order, no time and no
hand-over is judged by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from types import MappingProxyType
from typing import Final

from evidencesync.custody.chain import ChainChecker, ChainFacts, ChainSubject, follows
from evidencesync.custody.documents import CUSTODY_NAMESPACE, CustodyRecord
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.record import ABOUT_TRUST, ROLE_FOR, SIGNERS, SignedBy, check_signer, decode_record
from evidencesync.custody.statements import Statements
from evidencesync.custody.two_people import Proposals
from evidencesync.custody.vault_keys import KEY_CHANGED
from evidencesync.errors import ChainError, MalformedDocumentError, UntrustedSignerError
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import Title
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.limits import MAX_RECORD, MAX_SIGNATURE
from evidencesync.vault.interrupted import TEMPORARY, left_by_append, reserved_number
from evidencesync.vault.layout import SIGNATURE_SUFFIX, parse_record_file, record_file
from evidencesync.verify.allowed import Needed
from evidencesync.verify.asked import STATED, TO_ADMINISTER, check_request
from evidencesync.verify.chain_times import ChainTimes
from evidencesync.verify.checks import Check
from evidencesync.verify.context import Context, Statement
from evidencesync.verify.documents import CheckedFolder
from evidencesync.verify.findings import Reporter
from evidencesync.verify.left_reservations import reservation_violation
from evidencesync.verify.signed_at import SignedAt
from evidencesync.verify.two_people import Seal, check_seal, seal_of

_MOST_LOOKED_FOR: Final = 100  # missing records in a listing: a planted file may have a very large number


@dataclass(frozen=True, slots=True)
class ChainedAcquisition:
    """What a chain states about one acquisition. Digests are hexadecimal; None is what no valid record states."""

    sequence: int
    acquired_sha256: str
    manifest_sha256: str | None
    signer: str | None
    received_sha256: str | None = None
    receipt_sha256: str | None = None
    received_by: str | None = None
    """The fingerprint of the vault's key that signed `received`."""
    received_at: int | None = None
    acquired_at: int | None = None
    """By the signer's own clock."""
    stated_by: int | None = None
    """See `SignedAt`."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """A record with a valid signature, whose time is not known yet."""

    report: Reporter
    name: str
    sequence: int
    key: PublicKey
    principal: str
    vault_time_ns: int | None
    needed: Needed | None
    """None for what the vault signs."""
    stated_by: int | None = None
    """In the vault's own chain: the record that states it. Else the chain tells when all is read."""
    seal: Seal | None = None


@dataclass(slots=True)
class ChainReader:
    """Checks a chain's records in order; `acquisitions` and `details` collect what they state."""

    context: Context
    subject: ChainSubject
    check: Check
    acquisitions: dict[int, ChainedAcquisition] = field(default_factory=dict)
    stated_heads: list[tuple[str, str]] = field(default_factory=list)
    """What `heads` records of the vault's own chain state, in order: `CASE/ITEM` folders, and `SEQUENCE SHA256`.

    A damaged record states nothing, or an item would have another history by what a disk has made of a digest.
    """
    stated_times: list[tuple[str, str, int, int]] = field(default_factory=list)
    """The same from records with a valid signature, each with the record's time and number."""
    timestamped: dict[int, list[CustodyRecord]] = field(default_factory=dict)
    """Records about timestamps, by acquisition."""
    broken: bool = False
    digests: dict[int, str] = field(default_factory=dict)
    unread: set[int] = field(default_factory=set)
    """The numbers of records that are there and could not be read."""
    damaged: set[int] = field(default_factory=set)
    """The numbers of records that are not in the strict form, or that no signature vouches for: they make no other history."""
    listed: bool = False
    """Whether the folder could be listed: else it is unknown which records are there."""
    times_known: bool = True
    """Whether everything that dates a record could be read and is undamaged, in this chain and in the vault's own."""
    roles_known: bool = True
    """Whether the roles that records state were all understood."""
    _checker: ChainChecker = field(init=False)
    _signed: list[_Signed] = field(default_factory=list)
    _statements: Statements = field(default_factory=Statements)
    _times: ChainTimes = field(default_factory=ChainTimes)
    _proposals: Proposals = field(default_factory=lambda: Proposals(STATED))

    def __post_init__(self) -> None:
        self._checker = ChainChecker(self.subject)

    @property
    def facts(self) -> ChainFacts:
        """Returns what the records state, up to the first that is wrong."""
        return self._checker.facts()

    @property
    def head(self) -> tuple[int, str] | None:
        """Number and digest of the last record that is there."""
        last = max(self.digests, default=0)
        return (last, self.digests[last]) if last else None

    @property
    def is_whole(self) -> bool:
        """Whether every record could be read."""
        return self.listed and not self.unread

    @property
    def tells_roles(self) -> bool:
        """Whether every record of the vault's own chain could be read, is in its place and was understood."""
        return self.is_whole and self.roles_known and not self.broken and not self.damaged

    def read_folder(self, folder: CheckedFolder, reaching: int = 0) -> None:
        """Reads all records of a custody folder. `reaching`: the number of a record that is known to have been there."""
        records = self._sort_names(folder, reaching)
        self._record_listing(folder)
        self._read(folder, records, None)

    def read_on(self, folder: CheckedFolder, last_acquisition: int | None = None) -> None:
        """Reads the records that were added since, from a newer listing of the folder.

        With `last_acquisition`: up to the record before the next acquisition after that one.
        """
        if not self.broken and self.is_whole and folder.listed:
            known = max(self.digests, default=0)
            records = [one for one in self._sort_names(folder) if one[0] > known]
            self._record_listing(folder)
            self._read(folder, records, last_acquisition)
        elif not folder.listed:
            self._record_listing(folder)

    def _record_listing(self, folder: CheckedFolder) -> None:
        """Call after the last listing of the folder: if that failed, it is unknown which records are there."""
        self.listed = folder.listed
        self.times_known = self.times_known and folder.listed

    def _read(self, folder: CheckedFolder, records: list[tuple[int, str]], last_acquisition: int | None) -> None:
        expected = max(self.digests, default=0) + 1
        for sequence, kind in records:
            if last_acquisition is not None and kind == "acquired" and self.facts.acquisitions == last_acquisition:
                return
            if sequence != expected:
                self._miss(folder, expected, sequence)
            expected = sequence + 1
            name = record_file(sequence, kind)
            data = folder.load(name, MAX_RECORD)
            signature = folder.load(name + SIGNATURE_SUFFIX, MAX_SIGNATURE)
            self.times_known = self.times_known and not folder.report.is_unread(name + SIGNATURE_SUFFIX)
            if data is not None:
                self.add(folder.report, name, sequence, data, signature)
                continue
            self.broken = True
            self.times_known = False
            if self.subject.item is None:
                self.context.keys.pass_over(name)
            if folder.report.is_unread(name):
                self.unread.add(sequence)

    def add(self, report: Reporter, name: str, sequence: int, data: bytes, signature: bytes | None) -> None:
        """Checks the next record, in whatever folder its file is. `sequence` is the number in its file name."""
        self.context.progress.require_wanted()
        self.context.counts.records += 1
        digest = sha256_of(data).hex()
        record = self._place(report, name, sequence, data)
        self.digests[sequence] = digest
        if record is None:
            self.damaged.add(sequence)
            self.times_known = False
            if self.subject.item is None:
                self.context.keys.pass_over(name)
            return
        self._times.add(report, name, record)
        key = self._signer_of(report, name, data, signature, record)
        vault_time = parse_utc_time(record.time) if key is not None and SIGNERS[record.type] is SignedBy.VAULT else None
        if key is not None:
            seal = seal_of(record, self._statements.seals) if record.type == "sealed" else None
            who = record.actor.principal
            self._signed.append(_Signed(report, name, sequence, key, who, vault_time, _needed(record), seal=seal))
        holder = self._statements.passed_over(record)
        violation = self._statements.add(record)  # 5
        if violation is not None and not self.unread and not (self.damaged and violation.slug == "not-allowed"):
            report.report(self.check, violation.slug, violation.text, name)
        elif holder is not None and not self.unread:
            by, holder = safe_text(record.actor.principal, 80), safe_text(holder, 80)
            report.report(self.check, "holder-passed-over", f"{by} hands over in record {sequence} what {holder} held", name)
        self._remember(record, digest, key, vault_time)
        if self.subject.item is None and record.type in ABOUT_TRUST:
            self._remember_roles(report, name, record, vault_time)
            self._remember_asker(report, name, record, vault_time, digest)
        if self.subject.item is None and record.type == KEY_CHANGED:
            wrong = self.context.keys.follow(record, is_signed=key is not None)
            if wrong is not None:
                report.report(self.check, "wrong-signer", wrong, name)

    def finish(self, stated_times: Mapping[int, Statement] = MappingProxyType({})) -> None:
        """Judges the signers, now that the times are known. Call after the last record, and again after later ones.

        `stated_times`: by a record's number, where the vault stated that the chain ended with it.
        """
        self._times.finish(self.context.judge.now_ns + self.context.since_begun.elapsed_ns())
        lost = any(self.digests.get(number) != stated.sha256 for number, stated in stated_times.items())
        self.times_known = self.times_known and not lost  # what was stated dates the records before it, too
        at: SignedAt | None = None
        judge = self.context.judge
        stated_by = self._stated_by(stated_times)
        for signed in reversed(self._signed):
            stated = stated_times.get(signed.sequence)
            if stated is not None and stated.sha256 == self.digests.get(signed.sequence):
                at = SignedAt(stated.at_ns, "the vault signed for it")
            if signed.vault_time_ns is not None:
                if not self._is_of_its_time(signed, stated_by.get(signed.sequence)):
                    continue
                at = SignedAt(signed.vault_time_ns, "the vault signed for it")
            principal = None if signed.needed is None else signed.principal
            when = replace(at or judge.at_checking(), stated_by=signed.stated_by or stated_by.get(signed.sequence))
            about, timed = (signed.report, self.check, signed.name, signed.key), self.times_known
            trusted = judge.check_signer(*about, CUSTODY_NAMESPACE, principal, when, time_known=timed)
            if trusted and signed.needed is not None:
                judge.check_role(*about, signed.needed, when, time_known=timed)
            if signed.seal is not None:
                check_seal(signed.report, self.check, signed.name, signed.seal, judge.roles, when)
        self._signed.clear()
        for number, known in self.acquisitions.items():
            self.acquisitions[number] = replace(known, stated_by=stated_by.get(known.sequence))

    def _is_of_its_time(self, signed: _Signed, stated_by: int | None) -> bool:
        """Whether the vault signed an item's record with the key that it had then; a finding where it did not.

        Where it seems not so, its own chain is read on: the key may have been changed while the items were read.
        """
        context = self.context
        if self.subject.case is None or self.subject.item is None or context.keys.keys.in_time(signed.key.fingerprint, stated_by):
            return True
        if context.judge.is_renewed():
            place = Title(self.subject.case).folder, Title(self.subject.item).folder
            stated_by = self._stated_by(context.stated_times.get(place, {})).get(signed.sequence)
        out = context.keys.reason_out_of_time(signed.key, stated_by)
        if out is not None:
            known = context.times_known and not context.keys.lost
            text = f"custody record {signed.sequence} is {out}"
            doubt = "" if known else "; but not all of the vault's own chain could be read, so that this is not certain"
            signed.report.report(self.check, "wrong-signer" if known else "not-compared", text + doubt, signed.name)
        return out is None

    def _stated_by(self, stated_times: Mapping[int, Statement]) -> dict[int, int]:
        """Returns, by a record's number, the first record of the vault's own chain that states it or a later one."""
        found: dict[int, int] = {}
        first: int | None = None
        for sequence in sorted(self.digests, reverse=True):
            stated = stated_times.get(sequence)
            if stated is not None and stated.sha256 == self.digests[sequence]:
                first = stated.number if first is None else min(first, stated.number)
            if first is not None:
                found[sequence] = first
        return found

    # 1.

    def _sort_names(self, folder: CheckedFolder, reaching: int = 0) -> list[tuple[int, str]]:
        """Returns the records. Of the other names, their signatures are skipped, and leftovers of a crash are reported."""
        self._complete(folder, reaching)
        kinds = {raw.decode("utf-8", "replace"): kind for raw, kind in folder.names.items()}
        records = sorted(parsed for name in kinds if (parsed := parse_record_file(name)) is not None)
        signatures = {record_file(*parsed) + SIGNATURE_SUFFIX for parsed in records}
        last = records[-1][0] if records else 0
        left = left_by_append(kinds, last, of_item=self.subject.item is not None)
        for raw in sorted(folder.names):
            name = raw.decode("utf-8", "replace")
            if parse_record_file(name) is not None or name in signatures:
                continue
            reserved = name in left and kinds[name] == "file" and reserved_number(name) is not None
            violation = reservation_violation(self.context, self.subject, folder, name) if reserved else None
            if violation is not None:
                folder.report.report(Check.STRUCTURE, "extra-entry", f"{violation}: no writer of this vault has made it", raw)
            elif name in left and kinds[name] == "file":
                whole = not name.startswith(TEMPORARY)
                text = "a signature without its record yet" if whole else "a change that runs now, or was never finished"
                folder.report.report(Check.PUBLISHING, "unfinished-change", text, raw)
            elif not self._is_a_writers(folder, name):
                text = f"a {kinds[name]} that does not belong into a chain"
                folder.report.report(Check.STRUCTURE, "extra-entry", text, raw)
        return records

    def _is_a_writers(self, folder: CheckedFolder, name: str) -> bool:
        """Whether a writer is appending now, so that the name is gone by now, or its record is there."""
        if name.startswith(TEMPORARY):
            return not folder.has_now(name)
        return parse_record_file(name.removesuffix(SIGNATURE_SUFFIX)) is not None and folder.has_now(
            name.removesuffix(SIGNATURE_SUFFIX)
        )

    def _complete(self, folder: CheckedFolder, reaching: int) -> None:
        """Lists a folder again where a record seems to be missing up to the last one; newer records are left for later.

        Records are added in order: those before a listed one were there when the second listing began. A record that this
        listing lacks as well is looked up under each name that it can have: a network file system may list a folder as it was
        some time ago.
        """
        numbers = {parsed[0] for name in _texts(folder) if (parsed := parse_record_file(name)) is not None}
        last = max([*numbers, reaching], default=0)
        if not folder.listed or len(numbers) == last:
            return
        if folder.look_again():
            for name in _texts(folder):
                parsed = parse_record_file(name.removesuffix(SIGNATURE_SUFFIX))
                if parsed is not None and parsed[0] > last:
                    del folder.names[name.encode()]
                elif parsed is not None and name.endswith(".json"):
                    numbers.add(parsed[0])
        for number in islice((one for one in range(1, last + 1) if one not in numbers), _MOST_LOOKED_FOR):
            for kind in SIGNERS:
                folder.look_for(record_file(number, kind))

    def _miss(self, folder: CheckedFolder, expected: int, found: int) -> None:
        self.broken = True
        if self.subject.item is None:
            self.context.keys.lost = True  # what is not there may have changed the key
        looked_for = range(expected, min(found, expected + _MOST_LOOKED_FOR))
        unread = {one for one in looked_for if any(folder.report.is_unread(record_file(one, kind)) for kind in SIGNERS)}
        if found > expected and (unread or not folder.listed):  # it is unknown whether they are there; that was reported
            self.unread |= unread
            self.times_known = False
            return
        if found < expected:
            folder.report.report(self.check, "chain-broken", f"there are two custody records with the number {found}")
            return
        self.times_known = False
        which = f"record {expected} is" if found == expected + 1 else f"records {expected} to {found - 1} are"
        folder.report.report(self.check, "missing-record", f"custody {which} missing")

    # 2.

    def _place(self, report: Reporter, name: str, sequence: int, data: bytes) -> CustodyRecord | None:
        """Checks the record at its place. After the first wrong record, each is only compared with the one before it."""
        if not self.broken:
            try:
                record = self._checker.add(data)
            except ChainError as error:
                self.broken = True
                slug = "malformed-document" if isinstance(error.__cause__, MalformedDocumentError) else "chain-broken"
                report.report(self.check, slug, error.message, name)
                return self._decode_quietly(data)
        else:
            try:
                record = decode_record(data)
            except MalformedDocumentError as error:
                report.report(self.check, "malformed-document", error.message, name)
                return None
            before = self.digests.get(sequence - 1)
            if before is not None and not follows(record, record.sequence - 1, before):
                text = f"custody record {sequence} does not follow the record before it: one of the two was replaced"
                report.report(self.check, "chain-broken", text, name)
        filed = parse_record_file(name)
        if filed is not None and filed != (record.sequence, record.type):
            self.broken = True
            report.report(self.check, "chain-broken", f"the file of custody record {sequence} holds another one", name)
        return record

    def _decode_quietly(self, data: bytes) -> CustodyRecord | None:
        try:
            return decode_record(data)
        except MalformedDocumentError:
            return None  # the caller reports it

    # 3.

    def _signer_of(
        self, report: Reporter, name: str, data: bytes, signature: bytes | None, record: CustodyRecord
    ) -> PublicKey | None:
        """Returns the key that signed, if the table of types allows it. The signer of `acquired`: see the manifest's check."""
        if signature is not None:
            judge, signed = self.context.judge, sha512_of(data)
            key = judge.check_signature(report, self.check, name, signature, CUSTODY_NAMESPACE, signed)
            if key is None:
                self.damaged.add(record.sequence)
            try:
                if key is not None:
                    self._check_signer(record, key)
                    return key
            except UntrustedSignerError as error:
                known, is_vaults = self.context.keys, SIGNERS[record.type] is SignedBy.VAULT
                slug, text = (known.slug(), known.text(error.message)) if is_vaults else ("wrong-signer", error.message)
                report.report(self.check, slug, text, name)
        self.times_known = self.times_known and SIGNERS[record.type] is not SignedBy.VAULT
        return None

    def _check_signer(self, record: CustodyRecord, key: PublicKey) -> None:
        """Raises UntrustedSignerError; for a key of the vault's that is new since its chain was read, it is read on first."""
        try:
            check_signer(record, key, self.context.keys.may_sign(self.subject, record, key), key.fingerprint)
        except UntrustedSignerError:
            if self.subject.item is None or not self.context.judge.is_renewed():
                raise
            check_signer(record, key, self.context.keys.may_sign(self.subject, record, key), key.fingerprint)

    def _remember(self, record: CustodyRecord, digest: str, key: PublicKey | None, vault_time_ns: int | None) -> None:
        """Keeps what the record states, also where its signature was refused: that is a finding already."""
        if record.type == "heads":
            self.stated_heads.extend(() if record.sequence in self.damaged else record.details.items())
            if vault_time_ns is not None:
                own = record.sequence
                self.context.judge.statements[own] = vault_time_ns
                self.stated_times += [(place, stated, vault_time_ns, own) for place, stated in record.details.items()]
        if record.type == "trust-changed" and vault_time_ns is not None:
            judge, changed = self.context.judge, record.details.get("key", "")
            if record.details.get("action") == "retired":
                judge.retirements.setdefault(changed, []).append((record.sequence, vault_time_ns))
            elif record.details.get("action") == "added":
                judge.additions.setdefault(changed, []).append(record.sequence)
        number = record.acquisition
        if number is None:
            return
        if record.type == "acquired":
            signer = key.fingerprint if key is not None else None
            said = parse_utc_time(record.time)
            self.acquisitions[number] = ChainedAcquisition(
                record.sequence, digest, record.manifest_sha256, signer, acquired_at=said
            )
        elif record.type == "timestamped":
            self.timestamped.setdefault(number, []).append(record)
        elif record.type == "received" and (known := self.acquisitions.get(number)) is not None:
            self.acquisitions[number] = replace(
                known,
                received_sha256=digest,
                receipt_sha256=record.receipt_sha256,
                received_at=vault_time_ns,
                received_by=None if key is None else key.fingerprint,
            )

    def _remember_roles(self, report: Reporter, name: str, record: CustodyRecord, vault_time_ns: int | None) -> None:
        if vault_time_ns is None:  # its signature is not good, or could not be read
            self.roles_known = False
            return
        try:
            self.context.judge.roles.add(record, vault_time_ns)
        except MalformedDocumentError as error:
            self.roles_known = False
            text = f"{name} states roles that this version does not know, so that none were judged: {error.message}"
            report.report(self.check, "not-compared", text, name)

    def _remember_asker(self, report: Reporter, name: str, record: CustodyRecord, vault_time_ns: int | None, sha256: str) -> None:
        """Has it judged who asked for a change of trust: at the time of the change, by what was so before it."""
        if vault_time_ns is None:  # its signature is not good, or could not be read
            return
        proposals = self._proposals if self.tells_roles else None
        asker = check_request(report, self.check, name, record, proposals, sha256, low_s=self.context.judge.low_s)
        if asker is not None:
            self.context.judge.statements[record.sequence] = vault_time_ns
            about = (report, name, record.sequence, asker.key, asker.principal, vault_time_ns)
            self._signed.append(_Signed(*about, TO_ADMINISTER, stated_by=record.sequence))


def _needed(record: CustodyRecord) -> Needed | None:
    """Returns the role without which nobody may sign a record. An acquisition has the vault's own time right behind it."""
    role = ROLE_FOR[SIGNERS[record.type]]
    claimed_ns = parse_utc_time(record.time) if role == "custody" else None
    return None if role is None or record.case is None else Needed(role, record.case, claimed_ns)


def _texts(folder: CheckedFolder) -> list[str]:
    """Returns the names in a folder that records can have."""
    return [raw.decode() for raw in folder.names if raw.isascii()]
