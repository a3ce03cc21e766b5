"""Checks a kept receipt without its vault.

1. Everything that belongs to a receipt is there.  2. The examiner's signatures, over manifest and `acquired` record, are by
the key that both name.  3. The vault's, over receipt and `received` record, are by the key that the receipt names.  4. The
manifest is in its strict form, and the receipt is about it.  5. The two records follow each other, and name manifest and
receipt.  6. The records that the vault showed are well-formed and signed, hang together, lead up to these two; and the vault's
own chain states where the item's ended.  7. With signers from outside: both keys are trusted for what they signed.  8. The dates
do not contradict each other; that is told, and is no problem.

Every check goes on after a problem. What is not kept could not be compared, and is a problem, too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from evidencesync.custody.chain import STATED_BEFORE, ChainOrder, ChainSubject, follows
from evidencesync.custody.consistency import KnownChain
from evidencesync.custody.documents import (
    CUSTODY_NAMESPACE,
    MANIFEST_NAMESPACE,
    RECEIPT_NAMESPACE,
    CustodyRecord,
    ManifestFooter,
    ManifestHeader,
    Person,
    Receipt,
)
from evidencesync.custody.hardlinks import HardLinkCheck
from evidencesync.custody.manifest import ManifestReader, read_manifest
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.receipt import ReceiptFacts, check_receipt, decode_receipt
from evidencesync.custody.record import check_signer, decode_record, record_name
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.times import AcquisitionTimes, Step, measured_clocks
from evidencesync.custody.trust import TrustedSigners
from evidencesync.custody.vault_keys import VaultKeys, proven_keys, reason_untrusted
from evidencesync.errors import (
    ChainError,
    EvidenceSyncError,
    ForkedError,
    IncompleteError,
    MalformedDocumentError,
    MissingOrExtraError,
    SignatureError,
    SourceReadError,
    UntrustedSignerError,
)
from evidencesync.evidence.digest import new_sha256, sha256_of, sha512_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.files.disk import document_blocks
from evidencesync.files.litter import without_litter
from evidencesync.limits import MAX_RECORD, MAX_SIGNATURE
from evidencesync.localstate.files import load_file, open_file, opened_folder
from evidencesync.localstate.receipt_folders import is_misplaced
from evidencesync.localstate.receipts import DOCUMENTS, ITEM_RECORDS, KEY_RECORDS, MANIFEST, SIGNATURE, VAULT_RECORDS

_SMALL: Final = (*DOCUMENTS, *(name + SIGNATURE for name in DOCUMENTS), MANIFEST + SIGNATURE)
_BRING_VAULT: Final = "check with --vault VAULT"


@dataclass(slots=True)
class CheckedReceipt:
    """The results of a check. `documents` are the small ones by name; `problems` are errors that are collected, not raised.

    `contradictions`: times that cannot be true, each in a sentence: a clock was wrong. They are no problems.
    `vouched_for`: the three documents have the signatures that they should have, and are about each other. What is not has been
    changed here, and proves nothing against a vault. `own_chain`: as far as the vault showed its own chain, signed by its key.
    """

    folder: Path
    documents: dict[str, bytes] = field(default_factory=dict)
    problems: list[EvidenceSyncError] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    receipt: Receipt | None = None
    acquired: CustodyRecord | None = None
    received: CustodyRecord | None = None
    header: ManifestHeader | None = None
    manifest_kept: bool = False
    records: int = 0
    vouched_for: bool = False
    own_chain: KnownChain | None = None

    @property
    def name(self) -> ItemName | None:
        """Which item it is about."""
        return ItemName(Title(self.receipt.case), Title(self.receipt.item)) if self.receipt is not None else None

    @property
    def head_sha256(self) -> str | None:
        """The head of the item's chain after this acquisition."""
        return sha256_of(self.documents["received.json"]).hex() if self.received is not None else None


def check_kept(folder: Path, trusted: TrustedSigners | None, now_ns: int, order: ChainOrder | None = None) -> CheckedReceipt:
    """Checks one receipt's folder. `trusted` are signers from outside; without them trust is not checked. Never raises.

    `order`: the order of events in the own chain of a vault at hand.
    """
    run = _Check(CheckedReceipt(folder), trusted, now_ns, order)
    run.run()
    return run.found


def read_kept(folder: Path) -> CheckedReceipt:
    """Reads a receipt for a list; checks nothing but its form. Never raises."""
    run = _Check(CheckedReceipt(folder), None, 0)
    run.read()
    return run.found


class _Check:
    def __init__(
        self, found: CheckedReceipt, trusted: TrustedSigners | None, now_ns: int, order: ChainOrder | None = None
    ) -> None:
        self.found = found
        self._trusted = trusted
        self._now_ns = now_ns
        self._order = order
        self._manifest_sha256: str | None = None
        self._footer: ManifestFooter | None = None
        self._listed = False
        self._keys: list[tuple[str, PublicKey, str | None, str]] = []
        self._verified: set[str] = set()
        self._vault_keys = VaultKeys("")

    def run(self) -> None:
        self.read()
        found = self.found
        try:
            with opened_folder(found.folder) as folder:
                self._try(lambda: self._read_keys(folder))
                self._check_manifest(folder)  # 2., 4.
                for check in (self._check_signatures, self._check_together):  # 2., 3., 5.
                    self._try(check)
                self._check_records(folder)  # 6.
                self._check_times()  # 8.
        except OSError as error:
            self._add_problem(SourceReadError(f"cannot be read: {error.strerror}"))
        for one in self._keys:  # 7.
            self._check_trust(*one)

    def read(self) -> None:
        """1."""
        found = self.found
        try:
            with opened_folder(found.folder) as folder:
                names = set(without_litter(folder))
                for name in _SMALL:
                    self._load(folder, name)
        except OSError as error:
            self._add_problem(SourceReadError(f"cannot be read: {error.strerror}"))
            return
        self._listed = True
        for name in sorted(set(_SMALL) - names):
            self._add_problem(MissingOrExtraError(f"{name} is missing"))
        for name in sorted(names - {*_SMALL, MANIFEST, ITEM_RECORDS, VAULT_RECORDS, KEY_RECORDS}):
            if not is_misplaced(found.folder / name):  # it is checked for itself: see `receipt_folders`
                self._add_problem(MissingOrExtraError(f"{safe_text(os.fsencode(name), 100)} does not belong to a receipt"))
        found.manifest_kept = MANIFEST in names
        self._try(self._decode)

    def _load(self, folder: int, name: str) -> None:
        """Loads one document. A problem with it is collected, and the others are still read."""
        try:
            data = load_file(folder, name, MAX_SIGNATURE if name.endswith(SIGNATURE) else MAX_RECORD)
        except OSError as error:
            kind = MalformedDocumentError if error.errno == errno.EFBIG else SourceReadError
            self._add_problem(kind(f"{name} cannot be read: {error.strerror}"))
            return
        if data is not None:
            self.found.documents[name] = data

    def _decode(self) -> None:
        found, documents = self.found, self.found.documents
        if "receipt.json" in documents:
            found.receipt = decode_receipt(documents["receipt.json"])
        if "acquired.json" in documents:
            found.acquired = decode_record(documents["acquired.json"])
        if "received.json" in documents:
            found.received = decode_record(documents["received.json"])

    def _read_keys(self, folder: int) -> None:
        """Reads the records by which the vault proved its key, where that was not its first one."""
        receipt = self.found.receipt
        if receipt is None:
            return
        self._vault_keys = VaultKeys(receipt.vault_key)
        with contextlib.suppress(FileNotFoundError), opened_folder(KEY_RECORDS, folder) as records:
            names = sorted((name for name in without_litter(records) if not name.endswith(SIGNATURE)), key=_by_number)
            pairs = [
                (load_file(records, name, MAX_RECORD), load_file(records, name + SIGNATURE, MAX_SIGNATURE)) for name in names
            ]
            changes = [(data or b"", signature or b"") for data, signature in pairs]
            self._vault_keys = proven_keys(receipt.vault_id, receipt.vault_key, changes)

    def _check_manifest(self, folder: int) -> None:
        """Checks the manifest's form, digest and signature, and that the receipt is about it (steps 2 and 4)."""
        found = self.found
        if not self._listed:
            return  # whether it was kept is not known, which was said
        if not found.manifest_kept:
            self._add_problem(SourceReadError("the manifest was not kept: signature and receipt could not be compared with it"))
            return
        reader, links, sha256, sha512 = ManifestReader(), HardLinkCheck(), new_sha256(), hashlib.sha512()

        def add_to_digests(block: bytes) -> None:
            sha256.update(block)
            sha512.update(block)

        try:
            with open_file(folder, MANIFEST) as file:
                for path, line in read_manifest(document_blocks(file, add_to_digests), reader):
                    if isinstance(line, Entry):
                        links.add(path, line)
            footer = self._footer = reader.finish()
            for false in links.false_links(lambda: _entries(folder)):
                raise MalformedDocumentError(false.text)
        except EvidenceSyncError as error:
            self._add_problem(error)
            return
        found.header, self._manifest_sha256 = reader.header, sha256.digest().hex()
        signature = found.documents.get(MANIFEST + SIGNATURE)
        if found.header is None or signature is None:
            return
        header = found.header
        self._try(lambda: self._check_examiner(header.examiner, MANIFEST, MANIFEST_NAMESPACE, signature, sha512.digest()))
        if found.receipt is None or found.acquired is None:
            return
        facts = ReceiptFacts(
            header=header,
            footer=footer,
            contents=reader.tally.contents,
            manifest_sha256=self._manifest_sha256,
            manifest_signature_sha256=sha256_of(signature).hex(),
            acquired_sha256=sha256_of(found.documents["acquired.json"]).hex(),
            acquired_sequence=found.acquired.sequence,
        )
        for difference in check_receipt(found.receipt, facts):
            self._add_problem(SignatureError(f"receipt.json is not about this manifest: {safe_text(str(difference), 300)}"))

    def _check_signatures(self) -> None:
        found = self.found
        if found.acquired is not None:
            actor = found.acquired.actor
            self._check_signature("acquired.json", lambda *signed: self._check_examiner(actor, *signed))
        if found.receipt is not None:
            vault_key = found.receipt.vault_key
            for name in ("receipt.json", "received.json"):
                self._check_signature(name, lambda *signed: self._check_vault(vault_key, *signed))

    def _check_signature(self, name: str, check: Callable[[str, str, bytes, bytes], None]) -> None:
        document, signature = (self.found.documents.get(one) for one in (name, name + SIGNATURE))
        if document is None or signature is None:
            return
        namespace, digest = RECEIPT_NAMESPACE if name == "receipt.json" else CUSTODY_NAMESPACE, sha512_of(document)
        self._try(lambda: check(name, namespace, signature, digest))

    def _check_examiner(self, named: Person, name: str, namespace: str, signature: bytes, sha512: bytes) -> None:
        key = _signer(signature, namespace, sha512, named.key, name)
        if key.fingerprint in self._vault_keys.all:
            raise UntrustedSignerError(f"{name} is signed by the vault in place of an examiner")
        if self.found.acquired is not None and key.fingerprint != self.found.acquired.actor.key:
            raise UntrustedSignerError(f"{name} is signed by another key than the one that acquired.json names")
        self._keys.append((namespace, key, named.principal, name))
        self._verified.add(name)

    def _check_vault(self, named: str, name: str, namespace: str, signature: bytes, sha512: bytes) -> None:
        self._keys.append((namespace, _signer(signature, namespace, sha512, named, name), None, name))
        self._verified.add(name)

    def _check_together(self) -> None:
        """5."""
        found = self.found
        receipt, acquired, received = found.receipt, found.acquired, found.received
        if receipt is None or acquired is None or received is None or not self._verified.issuperset(DOCUMENTS):
            return  # reported already; and what nobody vouches for is not held against the others
        acquired_sha256, receipt_sha256 = (sha256_of(found.documents[name]).hex() for name in ("acquired.json", "receipt.json"))
        subject = (receipt.vault_id, receipt.case, receipt.item, receipt.acquisition, receipt.manifest_sha256)
        for record, kind in ((acquired, "acquired"), (received, "received")):
            about = (record.vault_id, record.case, record.item, record.acquisition, record.manifest_sha256)
            if record.type != kind or about != subject:
                raise ChainError(f"{kind}.json is about something else than receipt.json")
        if not follows(received, acquired.sequence, acquired_sha256):
            raise ChainError("received.json does not follow acquired.json")
        if received.receipt_sha256 != receipt_sha256 or received.actor.key != receipt.vault_key:
            raise ChainError("received.json is not about this receipt, or names another vault's key")
        if (receipt.acquired_sha256, receipt.acquired_sequence) != (acquired_sha256, acquired.sequence):
            raise ChainError("receipt.json is not about this acquired.json")
        found.vouched_for = True

    def _check_records(self, folder: int) -> None:
        """6."""
        found = self.found
        receipt, acquired, received = found.receipt, found.acquired, found.received
        if receipt is None or acquired is None or received is None:
            return
        item = self._read_records(folder, ITEM_RECORDS, receipt)
        if found.vouched_for and item and not follows(acquired, item[-1][0].sequence, item[-1][1]):
            self._add_problem(ForkedError("the item's records that the vault showed do not lead up to acquired.json"))
        own = self._read_records(folder, VAULT_RECORDS, receipt)
        found.own_chain = KnownChain.of(own[-1][0].sequence, [sha256 for _, sha256 in own]) if own else None
        name, stated = found.name, f"{received.sequence} {found.head_sha256}"
        place = name.place if name is not None else ""
        if (
            found.vouched_for
            and own
            and not any(record.type == "heads" and record.details.get(place) == stated for record, _ in own)
        ):
            self._add_problem(
                ChainError("the vault's own records do not state where the item's chain ended with this acquisition")
            )

    def _check_times(self) -> None:
        """8."""
        found = self.found
        times = AcquisitionTimes.of(found.header, self._footer, found.acquired, found.received, found.receipt)
        found.contradictions += times.contradictions(measured_clocks(found.header))
        found.contradictions += times.of_the_future(Step("this check is made", self._now_ns))

    def _read_records(self, folder: int, part: str, receipt: Receipt) -> list[tuple[CustodyRecord, str]]:
        """The records of one chain that were kept, with their digests, in order."""
        found: list[tuple[CustodyRecord, str]] = []
        try:
            with opened_folder(part, folder) as records:
                names = set(without_litter(records))
                for name in sorted(names, key=_by_number):
                    if name.endswith(SIGNATURE):
                        if name.removesuffix(SIGNATURE) not in names:
                            shown = safe_text(os.fsencode(f"{part}/{name}"), 100)
                            raise MissingOrExtraError(f"{shown} is a signature without its record")
                        continue
                    record, digest = self._load_record(records, name, receipt)
                    before = found[-1] if found else None
                    if before is not None and not follows(record, before[0].sequence, before[1]):
                        raise ChainError(f"{part}/{name} does not follow the record before it")
                    if (record.case is None) != (part == VAULT_RECORDS):
                        raise ChainError(f"{part}/{name} belongs to another chain")
                    found.append((record, digest))
        except FileNotFoundError:
            return []
        except EvidenceSyncError as error:
            self._add_problem(error)
        self.found.records += len(found)
        return found

    def _load_record(self, folder: int, name: str, receipt: Receipt) -> tuple[CustodyRecord, str]:
        data, signature = load_file(folder, name, MAX_RECORD), load_file(folder, name + SIGNATURE, MAX_SIGNATURE)
        shown = safe_text(os.fsencode(name), 100)
        if data is None or signature is None:
            raise MissingOrExtraError(f"{shown} or its signature is missing")
        record = decode_record(data)
        subject = ChainSubject(receipt.vault_id, *((receipt.case, receipt.item) if record.case is not None else ()))
        if record_name(record) != name or ChainSubject.of(record) != subject:
            raise ChainError(f"{shown} is another record")
        key = verify_signature(signature, CUSTODY_NAMESPACE, sha512_of(data))
        keys, is_own = self._vault_keys, record.case is None
        check_signer(record, key, keys.at(record.sequence) if is_own else keys.named(key.fingerprint), key.fingerprint)
        return record, sha256_of(data).hex()

    def _check_trust(self, namespace: str, key: PublicKey, principal: str | None, what: str) -> None:
        """Checks that a key is trusted, under the name that the document gives, at the time of the vault's receipt.

        The signature cannot have been made later. The vault's clock may have been ahead. Whether a retired key was retired before
        or after the signature, only the order of the vault's own chain shows: without it that date is not used against the key.
        """
        trusted = self._trusted
        if trusted is None:
            return
        at_ns = self._vault_time()
        if principal is None:
            untrusted = reason_untrusted(trusted, self._vault_keys, key, namespace, at_ns)
        else:
            untrusted = trusted.reason_untrusted(principal, key, namespace, at_ns)
        if untrusted is not None:
            doubt = self._doubt(trusted, namespace, key, principal, at_ns)
            said = f"{what}: {untrusted}"
            self._add_problem(UntrustedSignerError(said) if doubt is None else IncompleteError(f"{said}; but {doubt}"))

    def _vault_time(self) -> int:
        """As `verify` takes it: the record counts, for it is what the chain holds."""
        received, receipt = self.found.received, self.found.receipt
        dated = received.time if received is not None else receipt.finished if receipt is not None else None
        return self._now_ns if dated is None else parse_utc_time(dated)

    def _doubt(self, trusted: TrustedSigners, namespace: str, key: PublicKey, principal: str | None, at_ns: int) -> str | None:
        """Why a key that is not trusted at the vault's date may have been trusted all the same."""
        receipt, name, received = self.found.receipt, self.found.name, self.found.received
        if receipt is None or name is None or received is None or not trusted.has_ended(key, namespace, at_ns, principal):
            return None
        if self._order is None or self._order.vault_id != receipt.vault_id:
            return f"that date is by the vault's clock, and whether it was retired before, only its chain tells: {_BRING_VAULT}"
        place = name.place
        retired = self._order.retired_after(key.fingerprint, place, f"{received.sequence} {self.found.head_sha256}")
        if retired is None or trusted.reason_untrusted(principal, key, namespace, retired) is not None:
            return None
        return STATED_BEFORE

    def _try(self, check: Callable[[], None]) -> None:
        try:
            check()
        except EvidenceSyncError as error:
            self._add_problem(error)

    def _add_problem(self, error: EvidenceSyncError) -> None:
        self.found.problems.append(error)


def _by_number(name: str) -> tuple[int, str]:
    """The order of records: their numbers have four digits, or as many as it takes."""
    return len(name.partition("-")[0]), name


def _entries(folder: int) -> Iterator[tuple[bytes, Entry]]:
    with open_file(folder, MANIFEST) as file:
        for path, line in read_manifest(document_blocks(file)):
            if isinstance(line, Entry):
                yield path, line


def _signer(signature: bytes, namespace: str, sha512: bytes, named: str, name: str) -> PublicKey:
    try:
        key = verify_signature(signature, namespace, sha512)
    except SignatureError as error:
        raise SignatureError(f"{name}: {error.message}") from error
    if key.fingerprint != named:
        raise UntrustedSignerError(f"{name} is signed by {key.fingerprint}, and names {named}")
    return key
