"""Runs an export: writes a verified acquisition in a format beside its destination, and then renames it."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from evidencesync.evidence.digest import new_sha256
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.export.acquisition import NO_ROOM, AcquisitionReader
from evidencesync.export.bag import Bag
from evidencesync.export.case_uco import graph_blocks
from evidencesync.export.contents import OpenContents, StoredContents
from evidencesync.export.destination import Destination
from evidencesync.export.encrypt import Recipient, encrypt_blocks
from evidencesync.export.hashdeep import LeftOut, hashdeep_lines
from evidencesync.export.tree import FolderWriter, archive_blocks, joined_lines
from evidencesync.vault.item import VaultItem
from evidencesync.vault.space import check_destination
from evidencesync.vault.vault import Vault
from evidencesync.verify.context import VerifyProgress

if TYPE_CHECKING:
    from evidencesync.evidence.digest import Buffer


class Format(enum.StrEnum):
    """What can be written."""

    BAGIT = "bagit"
    HASHDEEP = "hashdeep"
    CASE_UCO = "case-uco"


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """Which acquisition is exported, in which format, to which place, and for which recipients.

    `now_ns` is the date of a bag. `is_fetched`: of the vault, on another machine, the documents alone are here.
    """

    vault: Vault
    item: VaultItem
    acquisition: int
    format: Format
    destination: Path
    recipients: list[Recipient]
    now_ns: int
    is_fetched: bool = False

    def open_destination(self) -> Destination:
        """Opens the destination, before anything is verified. An encrypted file gets a suffix that says so. Raises UsageError."""
        suffix = (".tar.age" if self.format is Format.BAGIT else ".age") if self.recipients else ""
        return Destination(self.destination, self.vault.layout.root, suffix)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `digest` is the SHA-256 of the bag's tag manifest, or of the one file; `digest_of` says of which.

    `not_listed` is what the format has no place for: links, devices, empty folders, and what has no content. `left_out`
    are files that are in the vault, and whose names the format cannot carry. `misread` are names that the format holds, and
    that widespread readers of it get wrong.
    """

    name: str
    path: str
    digest_of: str
    digest: str
    manifest_sha256: str
    files: int
    bytes: int
    not_listed: int
    misread: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)


WhenInPlace = Callable[[Exported], None]
"""Called when the export is written and has its name. If it raises, the export is removed: a record is appended only about an
export that exists, and no export stays without its record.
"""


def export_acquisition(
    wanted: ExportRequest,
    destination: Destination,
    when_in_place: WhenInPlace,
    progress: VerifyProgress,
    open_contents: OpenContents = StoredContents,
) -> Exported:
    """Writes an export of an acquisition that was verified. Whole and durable when this returns; nothing when it raises.

    `open_contents`: where the bytes of files come from.

    Raises UsageError for the destination, UnrepresentableNameError, DigestMismatchError, MissingOrExtraError, StorageError,
    NoSpaceError, and what `when_in_place` raises.
    """
    with AcquisitionReader(wanted.item, wanted.acquisition, is_fetched=wanted.is_fetched) as acquisition:
        run = _Run(wanted, destination, acquisition, when_in_place, progress, open_contents)
        return run.export_bag() if wanted.format is Format.BAGIT else run.export_file()


@dataclass(frozen=True, slots=True)
class _Run:
    """One export."""

    wanted: ExportRequest
    destination: Destination
    acquisition: AcquisitionReader
    when_in_place: WhenInPlace
    progress: VerifyProgress
    open_contents: OpenContents

    def export_bag(self) -> Exported:
        """A folder, or an archive of it that is encrypted as it is made."""
        acquisition = self.acquisition
        bag = Bag(acquisition, format_utc_time(self.wanted.now_ns)[:10])
        survey = bag.survey
        if self.wanted.recipients:
            with contextlib.closing(self.open_contents(acquisition, None)) as contents:
                blocks = archive_blocks(acquisition, contents, bag.name, bag.parts(), self.progress)
                return self._write_file(blocks, survey.unrepresented_entries, survey.misread_names, LeftOut())
        with self.destination.new_folder() as fd:
            writer = FolderWriter(acquisition, fd, self.open_contents, self.progress)
            try:
                for part in bag.parts():
                    writer.write(part)
                writer.finish()
            finally:
                writer.close()
            tag_manifest = bag.tag_manifest
            digest = tag_manifest.measured.sha256
            exported = self._exported(tag_manifest.name, digest, survey.unrepresented_entries, survey.misread_names, LeftOut())
            self.destination.publish_folder(fd, partial(self.when_in_place, exported))
        return exported

    def export_file(self) -> Exported:
        """One file, which may be encrypted as it is made."""
        left_out, footer = LeftOut(), self.acquisition.footer
        if self.wanted.format is Format.HASHDEEP:
            blocks = joined_lines(hashdeep_lines(self.acquisition, left_out))
        else:
            blocks = joined_lines(graph_blocks(self.acquisition))
        others = sum(footer.counts.values()) - self.acquisition.files
        return self._write_file(blocks, others, 0, left_out)

    def _write_file(self, blocks: Iterator[bytes], not_listed: int, misread: int, left_out: LeftOut) -> Exported:
        with self.destination.new_file() as file:
            if self.wanted.format is Format.BAGIT:  # an archive holds all that the evidence has, holes as zeros
                check_destination(file.fileno(), self.acquisition.footer.bytes, None, NO_ROOM)
            digest = new_sha256()
            target = _Hashed(file, digest.update)
            if self.wanted.recipients:
                encrypt_blocks(blocks, target, self.wanted.recipients)
            else:
                for block in blocks:
                    target.write(block)
            exported = self._exported(self.destination.name, digest.digest().hex(), not_listed, misread, left_out)
            self.destination.publish_file(file, partial(self.when_in_place, exported))
        return exported

    def _exported(self, digest_of: str, digest: str, not_listed: int, misread: int, left_out: LeftOut) -> Exported:
        acquisition = self.acquisition
        return Exported(
            name=self.destination.name,
            path=self.destination.path,
            digest_of=digest_of,
            digest=digest,
            manifest_sha256=acquisition.manifest_sha256,
            files=acquisition.files,
            bytes=acquisition.footer.bytes,
            not_listed=not_listed,
            misread=misread,
            left_out=left_out,
        )


class _Hashed:
    """A file to write to, and the digest of what was written."""

    def __init__(self, file: BinaryIO, update: Callable[[Buffer], object]) -> None:
        self._file = file
        self._update = update

    def write(self, data: bytes, /) -> int:
        """All of it."""
        self._update(data)
        return self._file.write(data)
