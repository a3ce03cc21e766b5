"""Both keys in one hand: documents of the latest acquisition are changed, and everything that names them is made anew and signed.

So nothing but the change itself can be found. (Examiner and vault together can sign anything; `verify` must still refuse
what is no document.)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from evidencesync.custody.documents import CUSTODY_NAMESPACE, MANIFEST_NAMESPACE, RECEIPT_NAMESPACE
from evidencesync.custody.sshsig import SigningKey, sign_document
from evidencesync.evidence.digest import blake3_of, sha256_of
from tests.unit.verify.sample import Made, edit

Change = Callable[[bytes], bytes]


def unchanged(data: bytes) -> bytes:
    """Leaves a document as it is."""
    return data


def readable(value: object) -> bytes:
    """A document in the form in which it is stored."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def with_field(path: str, value: object) -> Change:
    """Puts a value into an indented document; `path` has dots."""

    def change(data: bytes) -> bytes:
        document: Any = msgspec.json.decode(data)
        part = document
        *outer, last = path.split(".")
        for name in outer:
            part = part[name]
        part[last] = value
        return readable(document)

    return change


@dataclass(frozen=True)
class Forgery:
    """What is changed before it is signed; and with whose key, where that is not the right one."""

    manifest: Change = unchanged
    acquired: Change = unchanged
    receipt: Change = unchanged
    received: Change = unchanged
    sha256sums: Change = unchanged
    chunks: Change = unchanged
    acquired_by_vault: bool = False
    received_by_examiner: bool = False
    manifest_by_vault: bool = False

    def __call__(self, made: Made) -> None:
        """Writes the second acquisition anew, and its two records into the chain."""
        folder, vault, ana = made.acquisition(2), made.open().signer, made.examiner
        manifest = self.manifest((folder / "manifest.jsonl").read_bytes())
        files = {"manifest.jsonl": manifest}
        files["manifest.jsonl.sig"] = _sign(vault if self.manifest_by_vault else ana, MANIFEST_NAMESPACE, manifest)
        for name, digest in (("SHA256SUMS", sha256_of(manifest)), ("BLAKE3SUMS", blake3_of(manifest))):
            lines = (folder / name).read_bytes().splitlines(keepends=True)
            files[name] = b"".join(lines[:-1]) + digest.hex().encode() + b"  manifest.jsonl\n"
        files["SHA256SUMS"] = self.sha256sums(files["SHA256SUMS"])
        files["chunks.bin"] = self.chunks((folder / "chunks.bin").read_bytes())
        acquired = with_field("manifest_sha256", _hex(manifest))((folder / "acquired.json").read_bytes())
        files["acquired.json"] = acquired = self.acquired(acquired)
        files["acquired.json.sig"] = _sign(vault if self.acquired_by_vault else ana, CUSTODY_NAMESPACE, acquired)
        receipt = (folder / "receipt.json").read_bytes()
        for field, name in (
            ("manifest_sha256", "manifest.jsonl"),
            ("manifest_signature_sha256", "manifest.jsonl.sig"),
            ("sha256sums_sha256", "SHA256SUMS"),
            ("blake3sums_sha256", "BLAKE3SUMS"),
            ("chunks_sha256", "chunks.bin"),
            ("acquired_sha256", "acquired.json"),
        ):
            receipt = with_field(field, _hex(files[name]))(receipt)
        files["receipt.json"] = receipt = self.receipt(receipt)
        files["receipt.json.sig"] = _sign(vault, RECEIPT_NAMESPACE, receipt)
        received = (folder / "received.json").read_bytes()
        for field, data in (("previous_sha256", acquired), ("manifest_sha256", manifest), ("receipt_sha256", receipt)):
            received = with_field(field, _hex(data))(received)
        files["received.json"] = received = self.received(received)
        files["received.json.sig"] = _sign(ana if self.received_by_examiner else vault, CUSTODY_NAMESPACE, received)
        for name, data in files.items():
            edit(folder / name, data)
        for number, kind in ((3, "acquired"), (4, "received")):
            for suffix in ("", ".sig"):
                edit(made.item / "custody" / f"{number:04d}-{kind}.json{suffix}", files[f"{kind}.json{suffix}"])


def append_record(made: Made, kind: str, signer: SigningKey, **changes: object) -> Path:
    """One more record at the end of the item's chain, signed."""
    folder = made.item / "custody"
    last = max(file for file in os.listdir(folder) if file.endswith(".json"))
    sequence = int(last[:4]) + 1
    record: dict[str, Any] = msgspec.json.decode((folder / last).read_bytes())
    for field in ("acquisition", "manifest_sha256", "receipt_sha256"):
        record.pop(field, None)
    record |= {"sequence": sequence, "type": kind, "previous_sha256": _hex((folder / last).read_bytes())}
    record["actor"] = {"name": "Ana", "principal": "ana", "key": signer.public_key.fingerprint}
    data = readable(record | changes)
    file = folder / f"{sequence:04d}-{kind}.json"
    for path, content in ((file, data), (Path(f"{file}.sig"), _sign(signer, CUSTODY_NAMESPACE, data))):
        path.write_bytes(content)
        path.chmod(0o444)
    return file


def _sign(signer: SigningKey, namespace: str, data: bytes) -> bytes:
    return sign_document(signer, namespace, hashlib.sha512(data).digest())


def _hex(data: bytes) -> str:
    return sha256_of(data).hex()
