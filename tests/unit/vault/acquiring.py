"""A whole acquisition in a few lines, for tests: what a receiver does, without a sender."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidencesync.custody.documents import (
    CUSTODY_NAMESPACE,
    MANIFEST_NAMESPACE,
    RECEIPT_NAMESPACE,
    Clock,
    CustodyRecord,
    HostKeys,
    ManifestHeader,
    Method,
    Origin,
    Person,
    Point,
    Points,
    Receipt,
    Stored,
    Tally,
    Traffic,
)
from evidencesync.custody.manifest import CheckedLine, ManifestReader, encode_entry, encode_footer, encode_header, read_manifest
from evidencesync.custody.receipt import encode_receipt
from evidencesync.custody.record import encode_record
from evidencesync.custody.sshsig import SigningKey, sign_document
from evidencesync.delta.recipe import Recipe
from evidencesync.evidence.digest import blake3_of, sha256_of
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.evidence.path import to_json_fields
from evidencesync.evidence.utc_time import format_file_time, format_utc_time
from evidencesync.vault.create import create_vault
from evidencesync.vault.item import ItemState, VaultItem, lock_item
from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.layout import (
    ACQUIRED,
    ACQUIRED_SIGNATURE,
    MANIFEST_SIGNATURE,
    RECEIPT,
    RECEIPT_SIGNATURE,
    RECEIVED,
    RECEIVED_SIGNATURE,
    SIGNED_DOCUMENTS,
    STREAMED_DOCUMENTS,
)
from evidencesync.vault.publish import Fault, PublishedAcquisition, complete_unfinished, publish
from evidencesync.vault.readback import read_back
from evidencesync.vault.staging import Staging
from evidencesync.vault.vault import Vault

MTIME_NS = 1_600_000_000_123_456_789
STARTED = format_utc_time(1_700_000_000_000_000_000)


def item_name(case: str = "2026/117", item: str = "3-a") -> ItemName:
    """An item's name."""
    return ItemName(Title(case), Title(item))


def new_signer() -> VaultSigner:
    """A fresh Ed25519 key that signs."""
    return VaultSigner(Ed25519PrivateKey.generate())


MADE_NS: Final = 1_680_000_000 * 10**9


def new_vault(path: Path, examiner: SigningKey) -> Vault:
    """A vault that trusts one examiner, called ana; made before all that is acquired into it, on a fixed day in 2023."""
    return create_vault(path, "Lab", [(examiner.public_key, "ana")], at_ns=MADE_NS)


def file_line(path: bytes, data: bytes) -> CheckedLine:
    """A manifest line for a regular file."""
    text, encoded = to_json_fields(path)
    return path, Entry(
        type="file",
        path=text,
        path_b64=encoded,
        size=len(data),
        blake3=blake3_of(data).hex(),
        sha256=sha256_of(data).hex(),
        mode="0644",
        mtime=format_file_time(MTIME_NS),
    )


def folder_line(path: bytes) -> CheckedLine:
    """A manifest line for a folder."""
    text, encoded = to_json_fields(path)
    return path, Entry(type="directory", path=text, path_b64=encoded, mode="0755", mtime=format_file_time(MTIME_NS))


def manifest_lines(files: Mapping[bytes, bytes]) -> list[CheckedLine]:
    """The lines of a source that holds these files, in walk order, its folders and its root included."""
    folders = {b""}
    for path in files:
        while path := path.rpartition(b"/")[0]:
            folders.add(path)
    lines = [folder_line(path) for path in folders] + [file_line(path, data) for path, data in files.items()]
    return sorted(lines, key=lambda line: line[0].split(b"/") if line[0] else [])


@dataclass
class Acquirer:
    """Puts files into an item as one session."""

    vault: Vault
    examiner: SigningKey
    name: ItemName = field(default_factory=item_name)

    def item(self) -> VaultItem:
        """The item, with its folders."""
        return self.vault.item(self.name, create=True)

    def acquire(
        self,
        files: Mapping[bytes, bytes],
        *,
        session: str | None = None,
        recipes: Iterable[Recipe] = (),
        fault: Fault | None = None,
    ) -> PublishedAcquisition:
        """Stages the files and publishes them."""
        with lock_item(self.item()) as item:
            complete_unfinished(item)
            state = item.state()
            with Staging.create(item, session or os.urandom(16).hex()) as staging:
                self.stage(staging, state, files, recipes)
                return publish(staging, self.documents(staging, state, len(files), sum(map(len, files.values()))), fault)

    def stage_only(self, files: Mapping[bytes, bytes], session: str) -> None:
        """Stages the files, and leaves them there."""
        with lock_item(self.item()) as item:
            complete_unfinished(item)
            with Staging.create(item, session) as staging:
                self.stage(staging, item.state(), files)

    def stage(self, staging: Staging, state: ItemState, files: Mapping[bytes, bytes], recipes: Iterable[Recipe] = ()) -> None:
        """Fills a staging area, syncs it and reads it back."""
        lines = manifest_lines(files)
        staging.append_manifest(encode_header(self.header(staging, state)))
        reader = ManifestReader()
        for path, line in lines:
            assert isinstance(line, Entry)
            staging.append_manifest(encode_entry(line))
            if line.type == "directory":
                staging.tree.make_directory(path, MTIME_NS)
            else:
                staging.tree.create_file(path, files[path], MTIME_NS)
        staging.add_to_sums(lines)
        for recipe in recipes:
            staging.append_recipe(recipe)
        blocks = [encode_header(self.header(staging, state)), *[encode_entry(e) for _, e in lines if isinstance(e, Entry)]]
        reader.read_lines(b"".join(blocks))
        staging.append_manifest(encode_footer(reader.tally.footer(STARTED)))
        staging.finish()
        staging.sync()
        data = staging.open_data()
        try:
            read_back(data, lines)
        finally:
            os.close(data)
        staging.read_documents_back()

    def documents(self, staging: Staging, state: ItemState, files: int, size: int) -> dict[str, bytes]:
        """All signed documents of a staging area that is finished."""
        manifest = staging.item.layout.incoming / staging.session / "acquisition" / "manifest.jsonl"
        signature = _sign(self.examiner, MANIFEST_NAMESPACE, manifest.read_bytes())
        acquired = self.record(staging, state, "acquired")
        acquired_signature = _sign(self.examiner, CUSTODY_NAMESPACE, acquired)
        receipt = encode_receipt(self.receipt(staging, state, signature, acquired, Tally(files=files, bytes=size)))
        following = msgspec.structs.replace
        base = self.record_value(staging, state, "received")
        received = encode_record(
            following(
                base,
                sequence=state.head_sequence + 2,
                previous_sha256=sha256_of(acquired).hex(),
                receipt_sha256=sha256_of(receipt).hex(),
            )
        )
        return {
            MANIFEST_SIGNATURE: signature,
            ACQUIRED: acquired,
            ACQUIRED_SIGNATURE: acquired_signature,
            RECEIPT: receipt,
            RECEIPT_SIGNATURE: _sign(self.vault.signer, RECEIPT_NAMESPACE, receipt),
            RECEIVED: received,
            RECEIVED_SIGNATURE: _sign(self.vault.signer, CUSTODY_NAMESPACE, received),
        }

    def header(self, staging: Staging, state: ItemState) -> ManifestHeader:
        """The manifest's header."""
        return ManifestHeader(
            format="evidencesync-manifest/1",
            vault_id=self.vault.settings.id,
            vault_key=self.vault.keys.current,
            case=self.name.case.text,
            item=self.name.item.text,
            acquisition=state.next_acquisition,
            session=staging.session,
            previous_manifest_sha256=state.previous_manifest_sha256,
            examiner=self._person("acquired"),
            direction="local",
            digests_taken_at="source",
            source=Origin(host="host", operating_system="Linux", path="/evidence"),
            method=Method(
                tool="evidencesync", version="0", command_line=["push"], digests=["BLAKE3", "SHA-256"], filters=[], options={}
            ),
            ssh=None,
            started=STARTED,
            clock=Clock(utc_offset="+00:00"),
            notes=[],
        )

    def record(self, staging: Staging, state: ItemState, kind: str) -> bytes:
        """The exact bytes of a record that follows the head."""
        return encode_record(self.record_value(staging, state, kind))

    def record_value(self, staging: Staging, state: ItemState, kind: str) -> CustodyRecord:
        """A record that follows the head."""
        assert kind in ("acquired", "received")
        return CustodyRecord(
            format="evidencesync-custody/1",
            vault_id=self.vault.settings.id,
            sequence=state.head_sequence + 1,
            type="acquired" if kind == "acquired" else "received",
            time=STARTED,
            case=self.name.case.text,
            item=self.name.item.text,
            actor=self._person(kind),
            previous_sha256=state.head_sha256,
            details={},
            acquisition=state.next_acquisition,
            manifest_sha256=staging.manifest.sha256_hex,
        )

    def receipt(self, staging: Staging, state: ItemState, signature: bytes, acquired: bytes, all_of_it: Tally) -> Receipt:
        """The receipt."""
        point = Point(taken=True, method="test", digests=["blake3", "sha256"], files=all_of_it.files, bytes=all_of_it.bytes)
        none = Tally(files=0, bytes=0)
        return Receipt(
            format="evidencesync-receipt/1",
            vault_id=self.vault.settings.id,
            vault_key=self.vault.keys.current,
            case=self.name.case.text,
            item=self.name.item.text,
            acquisition=state.next_acquisition,
            session=staging.session,
            manifest_sha256=staging.manifest.sha256_hex,
            manifest_signature_sha256=sha256_of(signature).hex(),
            sha256sums_sha256=staging.sums.sha256sums.sha256_hex,
            blake3sums_sha256=staging.sums.blake3sums.sha256_hex,
            chunks_sha256=staging.recipes.sha256_hex,
            acquired_sha256=sha256_of(acquired).hex(),
            acquired_sequence=state.head_sequence + 1,
            previous_receipt_sha256=state.previous_receipt_sha256,
            points=Points(source=point, arrival=msgspec.structs.replace(point, digests=["blake3"]), disk=point),
            stored=Stored(written=all_of_it, linked=none, reflinked=none, copied=none),
            transfer=Traffic(
                wire_received_bytes=0,
                wire_sent_bytes=0,
                literal_bytes=0,
                reused_bytes=0,
                zero_bytes=0,
                interruptions=0,
                seconds="0.000",
            ),
            host_keys=HostKeys(receiver=None, sender=None),
            lookup="case",
            not_in_sums=staging.not_in_sums,
            received_from="here",
            finished=STARTED,
        )

    def _person(self, kind: str) -> Person:
        if kind == "acquired":
            return Person(name="Ana", principal="ana", key=self.examiner.public_key.fingerprint)
        return Person(name="Lab", principal="vault", key=self.vault.keys.current)


def _sign(signer: SigningKey, namespace: str, data: bytes) -> bytes:
    return sign_document(signer, namespace, hashlib.sha512(data).digest())


def check_published(item: VaultItem, number: int, files: Mapping[bytes, bytes]) -> None:
    """Checks that an acquisition holds exactly these files, is whole, and that its records are in the chain."""
    folder = item.layout.acquisition(number)
    with open(folder / "manifest.jsonl", "rb") as manifest:
        lines = list(read_manifest(iter(lambda: manifest.read(1 << 16), b""), ManifestReader()))
    assert lines == manifest_lines(files)
    for path, data in files.items():
        assert Path(os.fsdecode(os.fsencode(folder / "data") + b"/" + path)).read_bytes() == data
    for kind in ("acquired", "received"):
        linked = [file for file in item.ledger.files() if file.kind == kind]
        data = (folder / f"{kind}.json").read_bytes()
        assert item.ledger.load(linked[number - 1]).data == data
    assert set(os.listdir(folder)) == {"data"} | SIGNED_DOCUMENTS | STREAMED_DOCUMENTS
