"""Checks a published acquisition: its documents and files (checks 4 to 9), its timestamp, and where damage is."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import BinaryIO, Final

from evidencesync.custody.documents import (
    CUSTODY_NAMESPACE,
    MANIFEST_NAMESPACE,
    RECEIPT_NAMESPACE,
    CustodyRecord,
    ManifestHeader,
    Receipt,
)
from evidencesync.custody.labels import FLAGS, earlier_text
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.receipt import ReceiptFacts, check_receipt, decode_receipt
from evidencesync.custody.wholeness import SourceState
from evidencesync.delta.recipe import most_bytes
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.display import person_text, safe_text
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.evidence.utc_time import parse_utc_time, shown_time
from evidencesync.files.disk import document_blocks
from evidencesync.limits import MAX_RECORD, MAX_SIGNATURE
from evidencesync.vault.layout import (
    ACQUIRED,
    ACQUIRED_SIGNATURE,
    BLAKE3SUMS,
    CHUNKS,
    DATA,
    MANIFEST,
    MANIFEST_SIGNATURE,
    RECEIPT,
    RECEIPT_SIGNATURE,
    RECEIVED,
    RECEIVED_SIGNATURE,
    SHA256SUMS,
    SIGNED_DOCUMENTS,
    STREAMED_DOCUMENTS,
    TIMESTAMP,
    TIMESTAMP_DOCUMENTS,
)
from evidencesync.verify.allowed import Needed
from evidencesync.verify.chains import ChainedAcquisition
from evidencesync.verify.checks import Check
from evidencesync.verify.contents import report_damage
from evidencesync.verify.context import Context
from evidencesync.verify.documents import CheckedFolder, reason
from evidencesync.verify.listing import ManifestResult, check_listed
from evidencesync.verify.signed_at import TRUSTED_TIME, SignedAt
from evidencesync.verify.timestamps import CheckedToken, Later, Stamps, check_times, check_timestamp

_LOG: Final = logging.getLogger(__name__)
_KNOWN: Final = SIGNED_DOCUMENTS | STREAMED_DOCUMENTS | TIMESTAMP_DOCUMENTS | {DATA}
_FILE_OF: Final = {
    "manifest_sha256": MANIFEST,
    "manifest_signature_sha256": MANIFEST_SIGNATURE,
    "sha256sums_sha256": SHA256SUMS,
    "blake3sums_sha256": BLAKE3SUMS,
    "chunks_sha256": CHUNKS,
    "acquired_sha256": ACQUIRED,
}


@dataclass(frozen=True, slots=True)
class Expected:
    """What the item's chain states about an acquisition. `before` is what it states about the acquisition before it.

    `timestamped` are the chain's records about its timestamps.
    `times_known`: whether everything that dates a signature could be read.
    `received`: when the vault received an acquisition, by its number, if the chain says so.
    `later` reads the chain on: the current records about its timestamps, and whether a writer is adding to the item.
    `linked`: its records were read from the chain's folder; those in the acquisition's own folder are not judged yet.
    """

    case: str
    item: str
    number: int
    chained: ChainedAcquisition | None
    before: ChainedAcquisition | None
    timestamped: tuple[CustodyRecord, ...]
    linked: bool
    later: Callable[[], Later]
    received: Callable[[int], int | None]
    times_known: bool = True


def check_acquisition(
    context: Context, folder: CheckedFolder, expected: Expected, recipes: Callable[[], dict[int, BinaryIO]]
) -> None:
    """Checks an open acquisition folder. Whatever is wrong becomes a finding.

    `recipes` opens the chunks.bin files that can be trusted, by acquisition; it is only called where a file is damaged.
    """
    context.counts.acquisitions += 1
    files, size = context.counts.files, context.counts.bytes
    folder.report_extras(_KNOWN)  # 1
    acquired, _ = (_check_record(context, folder, expected, name) for name in (ACQUIRED, RECEIVED))  # 3
    vault_keys = _vault_keys(context, expected)
    receipt_bytes, receipt, _ = check_receipt_form(context, folder, vault_keys)  # 5
    signature = folder.load(MANIFEST_SIGNATURE, MAX_SIGNATURE)
    listed = check_listed(context, folder, has_data=DATA in context.not_fetched or folder.holds(DATA, "folder"))  # 4, 6, 7, 8, 9
    if listed.sha256 is not None:
        context.manifests[expected.number] = listed.sha256
    chunks_sha256 = None if CHUNKS in context.not_fetched else hash_recipes(folder, receipt)
    stamps = Stamps(expected.timestamped, expected.times_known, expected.later)
    token = check_timestamp(context, folder, expected.number, stamps, signature)  # 12
    check_times(folder.report, expected.chained, expected.before, listed.reader, receipt, token)  # 12
    signed = _check_manifest(context, folder, expected, listed, signature, token)  # 4
    if receipt is not None and receipt_bytes is not None:
        _check_receipt_facts(folder, expected, listed, receipt, receipt_bytes, signature, acquired, chunks_sha256)  # 5
        _report_gaps(folder, listed, receipt, all_digests=context.all_digests)
        _report_earlier(folder, expected, listed)
    if listed.damaged:
        report_damage(folder, listed.damaged, recipes())  # 7
    read = f"{count_text(context.counts.files - files, 'file')}, {size_text(context.counts.bytes - size)}"
    name = f"{safe_text(expected.case)} / {safe_text(expected.item)}, acquisition {expected.number}"
    _LOG.info("%s: read %s; %s; %s", name, read, signed, _timestamp_text(token))


def _timestamp_text(token: CheckedToken | None) -> str:
    if token is None:
        return "without a good timestamp"
    trusted = "of an authority that was named as trusted" if token.trusted else "of an authority that was not named as trusted"
    return f"timestamp {shown_time(token.gen_time_ns)} {trusted}"


# --- Records -------------------------------------------------------------------------------------------------------------


def _check_record(context: Context, folder: CheckedFolder, expected: Expected, name: str) -> bytes | None:
    """Checks one of the two records in the acquisition: it must be the chain's record, with a valid signature.

    A copy that its signature does not fit is damaged, and no other record: for that the finding about the signature is enough.
    """
    signature_name = ACQUIRED_SIGNATURE if name == ACQUIRED else RECEIVED_SIGNATURE
    data = folder.load(name, MAX_RECORD)
    signature = folder.load(signature_name, MAX_SIGNATURE)
    if data is None:
        return None
    chained, report = expected.chained, folder.report
    stated = None if chained is None else chained.acquired_sha256 if name == ACQUIRED else chained.received_sha256
    if signature is not None and expected.linked:
        of_record = Check.CUSTODY, name, signature, CUSTODY_NAMESPACE, sha512_of(data)
        if context.judge.check_signature(report, *of_record) is None:
            return data
    if stated is not None and sha256_of(data).hex() != stated:
        report.report(Check.CUSTODY, "record-differs", f"{name} is not the record that the custody chain has", name)
    return data


# --- Manifest ------------------------------------------------------------------------------------------------------------


def _check_manifest(
    context: Context,
    folder: CheckedFolder,
    expected: Expected,
    listed: ManifestResult,
    signature: bytes | None,
    token: CheckedToken | None,
) -> str:
    """Does check 4, after the manifest was read. Returns who signed it, and by what time that was judged, for people.

    1. The signature verifies for the bytes that were read.  2. It is by the key that the header names, which was trusted for
    manifests under the examiner's name: at the time of a trusted timestamp, else when it was received.  3. The same key
    signed the `acquired` record.  4. The chain names this manifest.  5. The header is about this vault, case, item and
    acquisition, and names the manifest before.
    """
    report, judge, chained = folder.report, context.judge, expected.chained
    header = listed.reader.header
    key: PublicKey | None = None
    signed = "the manifest's signature is not good, or could not be checked"
    if signature is not None and listed.sha512 is not None:
        key = judge.check_signature(  # 1
            report, Check.MANIFEST, MANIFEST, signature, MANIFEST_NAMESPACE, listed.sha512
        )
    if key is not None and header is not None:
        at = judge.at_checking()
        if chained is not None and chained.received_at is not None:
            at = SignedAt(chained.received_at, "the vault signed for it", chained.stated_by)
        if token is not None and token.trusted:
            at = SignedAt(token.latest_ns, TRUSTED_TIME, earliest_ns=token.gen_time_ns, without=at)
        if header.examiner.key != key.fingerprint:  # 2
            text = f"the manifest names the key {header.examiner.key}, but {key.fingerprint} signed it"
            report.report(Check.MANIFEST, "wrong-signer", text, MANIFEST_SIGNATURE)
        known = expected.times_known and not report.is_unread(TIMESTAMP)
        principal = header.examiner.principal
        trusted = judge.check_signer(
            report, Check.MANIFEST, MANIFEST, key, MANIFEST_NAMESPACE, principal, at, time_known=known
        ) and judge.check_role(report, Check.MANIFEST, MANIFEST, key, Needed("acquire", expected.case), at, time_known=known)
        who = f"signed by {person_text(header.examiner.name, principal)} with {key.fingerprint}"
        signed = f"{who}, {'trusted' if trusted else 'NOT trusted'} at {shown_time(at.ns)}, when {at.source}"
        if chained is not None and chained.signer is not None and chained.signer != key.fingerprint:  # 3
            text = f"{key.fingerprint} signed the manifest, but {chained.signer} the record of its acquisition"
            report.report(Check.MANIFEST, "wrong-signer", text, MANIFEST_SIGNATURE)
    if chained is not None and listed.sha256 not in (None, chained.manifest_sha256):  # 4
        report.report(Check.MANIFEST, "document-damaged", "the custody chain names another manifest", MANIFEST)
    if header is not None:
        _check_header(context, folder, expected, header)  # 5
    return signed


def _check_header(context: Context, folder: CheckedFolder, expected: Expected, header: ManifestHeader) -> None:
    identity, before, keys = context.identity, expected.before, _vault_keys(context, expected)
    known: list[tuple[str, object, object]] = [
        ("vault", identity.vault_id, header.vault_id),
        ("vault key", header.vault_key if header.vault_key in keys or context.keys.lost else keys[-1], header.vault_key),
        ("case", expected.case, header.case),
        ("item", expected.item, header.item),
        ("acquisition", expected.number, header.acquisition),
    ]
    if before is not None:
        known.append(("previous manifest", before.manifest_sha256, header.previous_manifest_sha256))
    for what, wanted, stated in known:
        if wanted != stated:
            text = f"the manifest's {what} is {safe_text(str(stated))}, not {safe_text(str(wanted))}"
            folder.report.report(Check.MANIFEST, "wrong-place", text, MANIFEST)


def _vault_keys(context: Context, expected: Expected) -> tuple[str, ...]:
    """Returns the vault's key that signed for an acquisition in the chain; each that it may be, where that is not known."""
    chained, keys = expected.chained, context.keys.keys
    if chained is None:
        return (keys.current,)
    return keys.all if chained.received_by is None else (chained.received_by,)


# --- Receipt -------------------------------------------------------------------------------------------------------------


def check_receipt_form(
    context: Context, folder: CheckedFolder, vault_keys: Collection[str]
) -> tuple[bytes | None, Receipt | None, PublicKey | None]:
    """Returns the receipt's bytes, its content, and the key that signed it; each None where it is not available.

    1. The receipt is in its strict form.  2. Its signature verifies.  3. It is by one of these keys of the vault.
    4. That key is trusted for receipts.
    """
    report, judge = folder.report, context.judge
    data = folder.load(RECEIPT, MAX_RECORD)
    signature = folder.load(RECEIPT_SIGNATURE, MAX_SIGNATURE)
    if data is None:
        return None, None, None
    receipt: Receipt | None = None
    try:
        receipt = decode_receipt(data)  # 1
    except MalformedDocumentError as error:
        report.report(Check.RECEIPT, "malformed-document", error.message, RECEIPT)
    if signature is None:
        return data, receipt, None
    key = judge.check_signature(  # 2
        report, Check.RECEIPT, RECEIPT, signature, RECEIPT_NAMESPACE, sha512_of(data)
    )
    if key is None:
        return data, receipt, None
    if key.fingerprint not in vault_keys:  # 3
        text = f"the receipt is signed by {key.fingerprint}, not by the vault's key {' or '.join(vault_keys)}"
        report.report(Check.RECEIPT, context.keys.slug(), context.keys.text(text), RECEIPT_SIGNATURE)
        return data, receipt, None
    at = _received_time(receipt) or judge.at_checking()
    trusted = judge.check_signer(report, Check.RECEIPT, RECEIPT, key, RECEIPT_NAMESPACE, None, at)  # 4
    return data, receipt, key if trusted else None


def _check_receipt_facts(
    folder: CheckedFolder,
    expected: Expected,
    listed: ManifestResult,
    receipt: Receipt,
    receipt_bytes: bytes,
    signature: bytes | None,
    acquired: bytes | None,
    chunks_sha256: str | None,
) -> None:
    """Does check 5: compares the receipt with the files, the manifest and the chain."""
    report, chained, before = folder.report, expected.chained, expected.before
    said = (receipt.case, receipt.item, receipt.acquisition)
    if said != (expected.case, expected.item, expected.number):
        report.report(Check.RECEIPT, "receipt-mismatch", "the receipt is about another item or acquisition", RECEIPT)
    if chained is not None and chained.receipt_sha256 not in (None, sha256_of(receipt_bytes).hex()):
        report.report(Check.RECEIPT, "document-damaged", "the custody chain names another receipt", RECEIPT)
    stored = {
        "manifest_sha256": listed.sha256,
        "manifest_signature_sha256": None if signature is None else sha256_of(signature).hex(),
        "sha256sums_sha256": listed.sha256sums_sha256,
        "blake3sums_sha256": listed.blake3sums_sha256,
        "chunks_sha256": chunks_sha256,
        "acquired_sha256": None if acquired is None else sha256_of(acquired).hex(),
    }
    for name, found in stored.items():
        if found is not None and found != getattr(receipt, name):
            file = _FILE_OF[name]
            report.report(Check.RECEIPT, "document-damaged", f"{file} is not the one that the receipt names", file)
    header, footer = listed.reader.header, listed.reader.footer
    if not listed.complete or header is None or footer is None:
        return
    facts = ReceiptFacts(
        header=header,
        footer=footer,
        contents=listed.reader.tally.contents,
        manifest_sha256=receipt.manifest_sha256,  # the stored files were compared above, by name
        manifest_signature_sha256=receipt.manifest_signature_sha256,
        acquired_sha256=receipt.acquired_sha256,
        acquired_sequence=chained.sequence if chained is not None else receipt.acquired_sequence,
        previous_receipt_sha256=before.receipt_sha256 if before is not None else None,
    )
    for difference in check_receipt(receipt, facts):
        report.report(Check.RECEIPT, "receipt-mismatch", safe_text(str(difference)), RECEIPT)
    if (listed.left_out_sha256, listed.left_out_blake3) != (receipt.not_in_sums.sha256sums, receipt.not_in_sums.blake3sums):
        report.report(Check.RECEIPT, "receipt-mismatch", "the receipt counts other files as left out of the sums", RECEIPT)


def _received_time(receipt: Receipt | None) -> SignedAt | None:
    """Returns when the vault states that it signed a receipt."""
    if receipt is None:
        return None
    return SignedAt(parse_utc_time(receipt.finished), "the vault signed for it")


_SLUG_OF_FLAG: Final = {"changed-while-read": "source-changed", "skipped": "source-filtered"}


def _report_gaps(folder: CheckedFolder, listed: ManifestResult, receipt: Receipt, *, all_digests: bool) -> None:
    """Reports gaps of the source: they are no fault of the vault, but part of the verdict."""
    header, footer = listed.reader.header, listed.reader.footer
    for flag, count in (footer.flags if footer is not None else {}).items():
        text = f"{count_text(count, 'entry', 'entries')} of the source: {FLAGS.get(flag, flag)}"
        folder.report.report(Check.MANIFEST, _SLUG_OF_FLAG.get(flag, "source-gaps"), text, MANIFEST)
    state = SourceState.of_manifest(header, footer) if header is not None and footer is not None else SourceState()
    if state.not_reached:
        text = f"{count_text(state.not_reached, 'name')} of the list of files could not be reached"
        folder.report.report(Check.MANIFEST, "source-gaps", text, MANIFEST)
    if state.changed_folders:
        text = f"{count_text(state.changed_folders, 'folder')} in which names came or went during the reading"
        folder.report.report(Check.MANIFEST, "source-changed", text, MANIFEST)
    if not receipt.points.source.taken:
        text = "digests were taken on arrival, not at the source: nothing shows that the server gave what lay on its disk"
        folder.report.report(Check.RECEIPT, "digested-on-arrival", text, RECEIPT)
    if not receipt.points.disk.taken and not all_digests:
        text = "the vault did not read back what it wrote, so that SHA-256 is the source's statement alone; BLAKE3 was checked"
        folder.report.report(Check.RECEIPT, "sha256-not-checked", text, RECEIPT)


def _report_earlier(folder: CheckedFolder, expected: Expected, listed: ManifestResult) -> None:
    """Reports files that the source's end has not read again: it took for granted that they were as before."""
    earlier = listed.reader.tally.earlier
    if listed.complete and earlier is not None:
        received = expected.received(earlier.oldest)
        when = "" if received is None else f"received {shown_time(received)}"
        text = earlier_text(earlier, listed.reader.tally.contents, expected.number, when)
        folder.report.report(Check.MANIFEST, "read-earlier", text, MANIFEST)


def hash_recipes(folder: CheckedFolder, receipt: Receipt | None) -> str | None:
    """Returns the SHA-256 of the stored recipes, in hexadecimal; None after a finding. The receipt names them."""
    arrived = receipt.points.arrival if receipt is not None else None
    most = most_bytes(arrived.files, arrived.bytes) if arrived is not None else None
    file = folder.open_written(CHUNKS, Check.RECEIPT, "document-damaged", most)
    if file is None:
        return None
    digest = hashlib.sha256()
    with file:
        try:
            for block in document_blocks(file):
                digest.update(block)
        except OSError as error:
            folder.report.report(Check.RECEIPT, "unreadable", f"{CHUNKS}: {reason(error)}", CHUNKS)
            return None
    return digest.hexdigest()
