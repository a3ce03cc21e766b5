"""Makes a bag (BagIt, RFC 8493): the evidence is the payload, and the documents are tag files.

The documents of the acquisition lie beside `data/` under their own names, so that the commands which check an acquisition in a
vault also check a bag (`sha256sum -c SHA256SUMS`, `ssh-keygen -Y verify`).

The payload manifest has SHA-256 only, the digest that was signed and verified. The RFC recommends SHA-512, which nobody has
signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

import evidencesync
from evidencesync.custody.wholeness import SourceState
from evidencesync.errors import UnrepresentableNameError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.utc_time import parse_file_time
from evidencesync.export.acquisition import AcquisitionReader
from evidencesync.export.sums import SUMS, remade_sums
from evidencesync.export.tree import (
    Blocks,
    Content,
    Folder,
    Measure,
    MetadataFile,
    Part,
    document_from,
    document_of,
    joined_lines,
)
from evidencesync.files.disk import document_blocks
from evidencesync.vault.layout import CUSTODY, DATA, SIGNATURE_SUFFIX
from evidencesync.vault.ledger import Ledger, RecordFile

MANIFEST: Final = "manifest-sha256.txt"
TAG_MANIFEST: Final = "tagmanifest-sha256.txt"
UNREPRESENTED: Final = "unrepresented.txt"

_MOST_NAMED: Final = 20
_UNREPRESENTED_HEAD: Final = b"What a payload manifest cannot state; manifest.jsonl, which is signed, has all of it.\n"
_ESCAPED: Final = ((b"%", b"%25"), (b"\r", b"%0D"), (b"\n", b"%0A"))  # RFC 8493, 2.1.3: these and no others; `%` first


def bag_path(path: bytes) -> bytes:
    """A payload path as it stands in a manifest (RFC 8493, 2.1.3)."""
    name = DATA.encode() + b"/" + path
    for character, escape in _ESCAPED:
        name = name.replace(character, escape)
    return name


def is_often_misread(path: bytes) -> bool:
    """Whether widespread readers misread a UTF-8 name, although the RFC allows it.

    The Library of Congress's `bagit` for Python does not decode `%25`, strips trailing white space, and splits lines at every
    line end of Unicode.
    """
    text = path.decode("utf-8", "replace").replace("\r", "x").replace("\n", "x")  # those two are escaped, and so read well
    return "%" in text or text != text.rstrip() or len(text.splitlines()) > 1


@dataclass(slots=True)
class Survey:
    """The result of a first pass over the manifest: names that a bag cannot hold, entries without a file, and lists of both."""

    manifest: Measure = field(default_factory=Measure)
    unrepresented: Measure = field(default_factory=Measure)
    unrepresented_entries: int = 0
    misread_names: int = 0
    impossible_names: int = 0
    _shown: list[str] = field(default_factory=list)

    def name(self, path: bytes) -> None:
        """Checks the name of a file or folder of the bag."""
        try:
            path.decode("utf-8")
        except UnicodeDecodeError:
            self.impossible_names += 1
            if len(self._shown) < _MOST_NAMED:
                self._shown.append(safe_text(path, 200))
        else:
            self.misread_names += is_often_misread(path)

    def require_possible(self) -> None:
        """Raises UnrepresentableNameError if there is a name that a bag cannot hold."""
        if self.impossible_names:
            more = self.impossible_names - len(self._shown)
            shown = ", ".join(self._shown) + (f", and {more} more" if more else "")
            raise UnrepresentableNameError(
                f"a bag holds names in UTF-8 only, and these are not: {shown}",
                hint="Nothing was written. For a list of all files: the same command with --format hashdeep. For the files: "
                "evidencesync restore VAULT DIR --case CASE --item ITEM",
            )


class Bag:
    """One acquisition as a bag: its parts, in order. Raises UnrepresentableNameError if a bag cannot hold it."""

    def __init__(self, acquisition: AcquisitionReader, bagging_date: str) -> None:
        """Goes through the manifest, and through all documents. `bagging_date` is YYYY-MM-DD."""
        self._acquisition = acquisition
        self.survey = self._survey()
        self.survey.require_possible()
        documents = [
            document_from("bagit.txt", b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"),
            document_from("bag-info.txt", self._info(bagging_date)),
            MetadataFile(MANIFEST, self.survey.manifest.result(), self._manifest),
            MetadataFile(UNREPRESENTED, self.survey.unrepresented.result(), self._unrepresented),
            *(document_of(name, self._stored(name)) for name in acquisition.documents()),
            *self._records(),
        ]
        lines = [f"{one.measured.sha256}  {one.name}\n" for one in sorted(documents, key=lambda one: one.name)]
        self.tag_manifest = document_from(TAG_MANIFEST, "".join(lines).encode())
        self.documents = [*documents, self.tag_manifest]

    @property
    def name(self) -> str:
        """A name for the bag's folder inside an archive: safe on any system."""
        name = self._acquisition.item.name
        return f"{name.case.folder}_{name.item.folder}_{self._acquisition.number:04d}"

    def parts(self) -> Iterator[Part]:
        """Yields all parts: documents first, then the evidence in the manifest's order."""
        yield from self.documents
        yield Folder(b"", None)
        for path, entry in self._acquisition.entries():
            mtime_ns = parse_file_time(entry.mtime) if entry.mtime is not None else None
            if entry.has_content:
                yield Content(path, entry, mtime_ns)
            elif entry.type == "directory" and path:
                yield Folder(path, mtime_ns)

    # The documents.

    def _survey(self) -> Survey:
        survey, others = Survey(), Unrepresented()
        survey.unrepresented.add(_UNREPRESENTED_HEAD)
        for path, entry in self._acquisition.entries():
            if entry.has_content:
                survey.manifest.add(_manifest_line(path, entry))
            if entry.has_content or entry.type == "directory":
                survey.name(path)
            for line in others.admit(path, entry):
                survey.unrepresented.add(line)
        for line in others.finish():
            survey.unrepresented.add(line)
        survey.unrepresented_entries = others.count
        return survey

    def _manifest(self) -> Iterator[bytes]:
        return joined_lines(_manifest_line(path, entry) for path, entry in self._acquisition.entries() if entry.has_content)

    def _unrepresented(self) -> Iterator[bytes]:
        others = Unrepresented()

        def lines() -> Iterator[bytes]:
            yield _UNREPRESENTED_HEAD
            for path, entry in self._acquisition.entries():
                yield from others.admit(path, entry)
            yield from others.finish()

        return joined_lines(lines())

    def _stored(self, name: str) -> Blocks:
        if self._acquisition.is_fetched and name in SUMS:
            return partial(remade_sums, self._acquisition, name)

        def blocks() -> Iterator[bytes]:
            with self._acquisition.open_document(name) as file:
                yield from document_blocks(file)

        return blocks

    def _records(self) -> Iterator[MetadataFile]:
        ledger = self._acquisition.item.ledger
        for file in ledger.files():
            name = f"{CUSTODY}/{file.name}"
            yield document_of(name, _one_block(ledger, file, "data"))
            yield document_of(name + SIGNATURE_SUFFIX, _one_block(ledger, file, "signature"))

    def _info(self, bagging_date: str) -> bytes:
        header, one = self._acquisition.header, self._acquisition
        fields = {
            "Source-Organization": header.examiner.organisation,
            "Contact-Name": header.examiner.name,
            "External-Identifier": f"{header.case} / {header.item} / {header.acquisition}",
            "Bagging-Date": bagging_date,
            "Payload-Oxum": f"{one.footer.bytes}.{one.files}",
            "Bag-Software-Agent": f"evidencesync {evidencesync.__version__}",
            "Evidencesync-Case": header.case,
            "Evidencesync-Item": header.item,
            "Evidencesync-Acquisition": str(header.acquisition),
            "Evidencesync-Source": SourceState.of_manifest(header, one.footer).words,
            "Evidencesync-Acquired": f"{header.started} to {one.footer.finished}",
            "Evidencesync-Examiner": header.examiner.name,
            "Evidencesync-Examiner-Key": header.examiner.key,
            "Evidencesync-Vault-Id": header.vault_id,
            "Evidencesync-Vault-Key": header.vault_key,
            "Evidencesync-Manifest-SHA256": one.manifest_sha256,
            "Evidencesync-Receipt-SHA256": one.receipt_sha256,
            "Evidencesync-Unrepresented-Entries": str(self.survey.unrepresented_entries),
        }
        return "".join(f"{label}: {value}\n" for label, value in fields.items() if value is not None).encode()


class Unrepresented:
    """Takes the entries in order, and yields a line for each that is neither a file with content nor a folder with a file in it.

    These are links, devices, empty folders, and entries that could not be read. A folder's line comes after its content.
    """

    def __init__(self) -> None:
        self.count = 0
        self._waiting: list[bytes] = []  # the folders, one in the other, in which no file was met yet

    def admit(self, path: bytes, entry: Entry) -> Iterator[bytes]:
        """The next entry."""
        while self._waiting and not _is_in(path, self._waiting[-1]):
            yield self._line(self._waiting.pop(), "empty-folder")
        if entry.has_content:
            self._waiting.clear()
        elif entry.type == "directory" and not entry.flags:
            self._waiting.append(path)
        else:
            yield self._line(path, ",".join([entry.type, *(entry.flags or [])]))

    def finish(self) -> Iterator[bytes]:
        """Yields the remaining lines, and their number."""
        while self._waiting:
            yield self._line(self._waiting.pop(), "empty-folder")
        yield f"{self.count} in all\n".encode()

    def _line(self, path: bytes, what: str) -> bytes:
        self.count += 1
        return f"{what}  {safe_text(path) or '.'}\n".encode()


def _one_block(ledger: Ledger, file: RecordFile, what: Literal["data", "signature"]) -> Blocks:
    """A record, or its signature. It is loaded when it is needed, since a chain may be long."""

    def blocks() -> Iterator[bytes]:
        stored = ledger.load(file)
        yield stored.data if what == "data" else stored.signature

    return blocks


def _manifest_line(path: bytes, entry: Entry) -> bytes:
    return b"%b  %b\n" % ((entry.sha256 or "").encode(), bag_path(path))


def _is_in(path: bytes, folder: bytes) -> bool:
    return not folder or path.startswith(folder + b"/")
