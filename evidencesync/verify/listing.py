"""ManifestPass: one pass over a manifest, which checks its form, everything that it lists, and the sums files.

The manifest's bytes are read once, and hashed as they are read: what was compared with the disk is what the digests at the
end are of. So nothing that is learned here counts before the caller has checked the signature over those digests.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from evidencesync.custody.hardlinks import HardLinkCheck
from evidencesync.custody.manifest import ManifestReader, read_manifest
from evidencesync.custody.sums import b3sum_line, entry_lines, sha256sum_line
from evidencesync.errors import MalformedDocumentError, PathEscapeError
from evidencesync.evidence.digest import Blake3Digest, Sha256Digest, new_blake3
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.files.disk import FOLDER_FLAGS, document_blocks
from evidencesync.files.folders import FolderStack
from evidencesync.limits import MAX_FINDINGS
from evidencesync.vault.file_checks import StoredFile
from evidencesync.vault.layout import BLAKE3SUMS, DATA, MANIFEST, SHA256SUMS
from evidencesync.verify.checks import Check
from evidencesync.verify.contents import ContentChecker, ContentProblem, Damage, Exchanged, Unreadable
from evidencesync.verify.context import Context
from evidencesync.verify.documents import CheckedFolder, Kind, is_left, left_text, reason
from evidencesync.verify.findings import Reporter
from evidencesync.verify.tree import TreeComparison

_GATHER: Final = 256 * 1024
_BLOCK: Final = 1 << 20
_MOST_REST: Final = 1 << 26  # bytes that are read after the expected end
_PREFIX: Final = DATA.encode() + b"/"


class SumsComparison:
    """Takes the lines that the file must have, in order; then call `finish`. Takes over the file (None: it could not be opened).

    A sums file has exactly one right content for each manifest, so the first difference is the place of the damage, and the
    rest is only hashed.
    """

    def __init__(self, file: BinaryIO | None, name: str, report: Reporter) -> None:
        self.left_out = 0
        """Files that this list cannot carry."""
        self._file = file
        self._name = name
        self._report = report
        self._hash = hashlib.sha256()
        self._expected: list[bytes] = []
        self._gathered = 0
        self._position = 0
        self._comparing = file is not None
        self._readable = file is not None

    def expect(self, line: bytes | None) -> None:
        """Compares the next line; None for a file that this list cannot express."""
        if line is None:
            self.left_out += 1
            return
        self._expected.append(line)
        self._gathered += len(line)
        if self._gathered >= _GATHER:
            self._compare()

    def give_up(self) -> None:
        """Stops comparing, because the expected lines are unknown."""
        self._comparing = False

    def finish(self) -> str | None:
        """Compares the rest and closes. Returns the file's SHA-256 in hexadecimal; None where it was not read to its end.

        A file that is much longer than its lines is another one, whatever its digest is.
        """
        self._compare()
        left: float = math.inf
        if self._comparing and (more := self._read(_BLOCK)):
            line = more.partition(b"\n")[0] + b"\n"
            self._differs(self._position, len(line), "it goes on after its last line")
            left = _MOST_REST
        while left > 0 and (more := self._read(_BLOCK)):
            left -= len(more)
        self._readable = self._readable and left > 0
        if self._file is not None:
            self._file.close()
        return self._hash.hexdigest() if self._readable else None

    def _compare(self) -> None:
        if not self._comparing:
            self._expected, self._gathered = [], 0
            return
        wanted = b"".join(self._expected)
        found = self._read(len(wanted)) if wanted else b""
        if found != wanted and self._readable:
            self._locate(found)
        self._position += len(found)
        self._expected, self._gathered = [], 0

    def _locate(self, found: bytes) -> None:
        offset = 0
        for line in self._expected:
            if found[offset : offset + len(line)] != line:
                rest = found[offset:]
                length = rest.find(b"\n") + 1 or len(rest)
                text = "a line is not the one that the manifest demands" if rest else "it ends too early"
                self._differs(self._position + offset, length, text)
                return
            offset += len(line)

    def _differs(self, offset: int, length: int, text: str) -> None:
        self._comparing = False
        self._report.report(Check.SUMS, "sums-differ", f"{self._name}: {text}", self._name, offset=offset, length=length)

    def _read(self, length: int) -> bytes:
        """Up to that many bytes; fewer only at the end."""
        parts: list[bytes] = []
        left = length
        while self._file is not None and self._readable and left:
            try:
                part = self._file.read(left)
            except OSError as error:
                self._readable = self._comparing = False
                self._report.report(Check.SUMS, "unreadable", f"{self._name}: {reason(error)}", self._name)
                break
            if not part:
                break
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
        self._hash.update(data)
        return data


def check_hard_links(folder: CheckedFolder, links: HardLinkCheck) -> None:
    """Checks the hard links of an acquisition's manifest, which was well-formed when they were added."""
    try:
        for false in links.false_links(lambda: _linked_entries(folder)):
            folder.report.report(Check.MANIFEST, "malformed-document", false.text, MANIFEST)
    except (OSError, MalformedDocumentError, PathEscapeError) as error:
        text = reason(error) if isinstance(error, OSError) else "it changed meanwhile"
        folder.report.report(Check.MANIFEST, "unreadable", f"{MANIFEST} cannot be read again: {text}", MANIFEST)


def _linked_entries(folder: CheckedFolder) -> Iterator[tuple[bytes, Entry]]:
    file = folder.open_written(MANIFEST, Check.MANIFEST, "malformed-document")
    if file is None:
        return
    with file:
        for path, line in read_manifest(document_blocks(file)):
            if isinstance(line, Entry):
                yield path, line


@dataclass(slots=True)
class ManifestResult:
    """What one pass found. Digests are of the manifest's file; None where it could not be read to its end."""

    reader: ManifestReader
    sha256: str | None = None
    sha512: bytes | None = None
    sha256sums_sha256: str | None = None
    blake3sums_sha256: str | None = None
    hard_links: HardLinkCheck = field(default_factory=HardLinkCheck)
    left_out_sha256: int = 0
    left_out_blake3: int = 0
    complete: bool = False
    """Whether the manifest was well-formed to its end, so that all it lists was compared."""
    damaged: list[Damage] = field(default_factory=list)


class _Hashes:
    """All digests of the manifest's own bytes that other documents name."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.sha512 = hashlib.sha512()
        self.blake3 = new_blake3()

    def update(self, block: bytes) -> None:
        self.sha256.update(block)
        self.sha512.update(block)
        self.blake3.update(block)


class _DataFindings:
    """Turns the differences under `data/` into findings; a TreeSink."""

    def __init__(self, context: Context, report: Reporter, listed: ManifestResult) -> None:
        self.contents: ContentChecker | None = None
        self._context = context
        self._reporter = report
        self._listed = listed

    def take_file(self, path: bytes, entry: Entry) -> None:
        if self.contents is not None:
            self.contents.add(StoredFile(path, entry.size or 0, entry.blake3 or "", entry.sha256 or ""))

    def take_missing(self, path: bytes, entry: Entry) -> None:
        self._report(Check.PRESENCE, "missing-file", f"the {entry.type} {safe_text(path)} is missing", path)

    def take_wrong(self, path: bytes, entry: Entry, kind: Kind) -> None:
        self._report(Check.PRESENCE, "wrong-type", f"{safe_text(path)} is a {kind}, not a {entry.type}", path)

    def take_extra(self, path: bytes, kind: Kind) -> None:
        """Among evidence nothing passes that the manifest does not list, whatever its name says of who left it there."""
        slug = "extra-entry" if kind in ("file", "folder") else "wrong-type"
        is_litter = is_left(path.rpartition(b"/")[2], kind)
        told = left_text(path, kind) if is_litter else f"a {kind} that the manifest does not put there: {safe_text(path)}"
        self._report(Check.PRESENCE, slug, told, path)

    def take_unreadable(self, path: bytes, error: OSError) -> None:
        self._report(
            Check.PRESENCE, "unreadable", f"the folder {safe_text(path) or DATA} cannot be listed: {reason(error)}", path
        )

    def take_folder_mode(self, path: bytes, mode: int) -> None:
        self._report(
            Check.MODES, "unsafe-mode", f"others may change the folder {safe_text(path) or DATA} (mode {mode:04o})", path
        )

    def take_done(self, files: int, size: int, holes: int, problems: list[ContentProblem]) -> None:
        """Adds what the threads have read."""
        counts, progress = self._context.counts, self._context.progress
        progress.require_wanted()
        counts.files += files
        counts.bytes += size
        progress.files += files
        progress.bytes += size
        progress.hole_bytes += holes
        for problem in problems:
            self._take_problem(problem)

    def _take_problem(self, problem: ContentProblem) -> None:
        path = problem.file.path
        if isinstance(problem, Damage):
            if len(self._listed.damaged) < MAX_FINDINGS:  # where they are damaged is found when the recipes are known
                self._listed.damaged.append(problem)
            else:
                self._report(Check.CONTENTS, "file-damaged", f"{safe_text(path)} is not what was acquired", path)
        elif isinstance(problem, Unreadable):
            text = f"{safe_text(path)} cannot be read at byte {problem.offset}: {problem.message}"
            self._report(Check.CONTENTS, "unreadable", text, path, problem.offset, problem.file.size - problem.offset)
        elif isinstance(problem, Exchanged):
            self._report(Check.PRESENCE, "missing-file", problem.message, path)
        else:
            self._report(Check.MODES, "unsafe-mode", f"{safe_text(path)} has the mode {problem.mode:04o}", path)

    def _report(
        self, check: Check, slug: str, text: str, path: bytes, offset: int | None = None, length: int | None = None
    ) -> None:
        self._reporter.report(check, slug, text, _PREFIX + path if path else DATA, offset=offset, length=length)


def check_listed(context: Context, folder: CheckedFolder, *, has_data: bool) -> ManifestResult:
    """Reads an acquisition's manifest, and compares `data/` and both sums files with it. Findings: checks 4, 6, 7, 8, 9.

    `has_data`: there is a folder `data/`; where there is none (which was reported), every file is missing.
    """
    listed = ManifestResult(ManifestReader())
    sums = tuple(
        SumsComparison(
            None if name in context.not_fetched else folder.open_written(name, Check.SUMS, "sums-differ"), name, folder.report
        )
        for name in (SHA256SUMS, BLAKE3SUMS)
    )
    manifest = folder.open_written(MANIFEST, Check.MANIFEST, "malformed-document")
    hashes = _Hashes()
    try:
        if manifest is not None:
            with manifest:
                _compare(context, folder, listed, manifest, hashes, sums, has_data=has_data)
        if listed.complete:
            sums[0].expect(sha256sum_line(Sha256Digest(hashes.sha256.digest()), MANIFEST.encode()))
            sums[1].expect(b3sum_line(Blake3Digest(hashes.blake3.digest()), MANIFEST.encode()))
        else:
            why = "could not be read" if folder.report.is_unread(MANIFEST) else "is missing or damaged"
            text = f"what lies under data/ could not be compared (to its end): the manifest {why}"
            folder.report.report(Check.MANIFEST, "not-compared", text, DATA)
    finally:
        for comparison in sums:
            if not listed.complete:
                comparison.give_up()
        listed.sha256sums_sha256, listed.blake3sums_sha256 = (comparison.finish() for comparison in sums)
    listed.left_out_sha256, listed.left_out_blake3 = (comparison.left_out for comparison in sums)
    return listed


def _compare(
    context: Context,
    folder: CheckedFolder,
    listed: ManifestResult,
    manifest: BinaryIO,
    hashes: _Hashes,
    sums: tuple[SumsComparison, ...],
    *,
    has_data: bool,
) -> None:
    sink = _DataFindings(context, folder.report, listed)
    readable = True
    data_fd = _open_data(folder) if has_data and context.contents else None

    try:
        _follow(context, listed, document_blocks(manifest, hashes.update), sink, sums, data_fd, has_data=has_data)
        listed.complete = True
    except (MalformedDocumentError, PathEscapeError) as error:
        folder.report.report(Check.MANIFEST, "malformed-document", error.message, MANIFEST)
    except OSError as error:
        readable = False
        folder.report.report(Check.MANIFEST, "unreadable", f"{MANIFEST}: {reason(error)}", MANIFEST)
    if readable and listed.complete:
        check_hard_links(folder, listed.hard_links)
    if readable:
        readable = _read_rest(folder, manifest, hashes)
    if readable:
        listed.sha256, listed.sha512 = hashes.sha256.hexdigest(), hashes.sha512.digest()


def _read_rest(folder: CheckedFolder, manifest: BinaryIO, hashes: _Hashes) -> bool:
    """Hashes what comes after the place where a malformed manifest was given up."""
    try:
        for _ in document_blocks(manifest, hashes.update):
            pass
    except OSError as error:
        folder.report.report(Check.MANIFEST, "unreadable", f"{MANIFEST}: {reason(error)}", MANIFEST)
        return False
    return True


def _open_data(folder: CheckedFolder) -> int | None:
    """The descriptor of `data/`; None after a finding. The documents are compared with each other all the same."""
    try:
        return os.open(DATA, FOLDER_FLAGS, dir_fd=folder.fd)
    except OSError as error:
        folder.report.report(Check.PRESENCE, "unreadable", f"the folder {DATA} cannot be opened: {reason(error)}", DATA)
        return None


def _follow(
    context: Context,
    listed: ManifestResult,
    blocks: Iterator[bytes],
    sink: _DataFindings,
    sums: tuple[SumsComparison, ...],
    data_fd: int | None,
    *,
    has_data: bool,
) -> None:
    """Walks manifest, tree and sums side by side. Raises what is wrong with the manifest, or OSError from reading it.

    `data_fd` is taken over; without it, files are not looked at, or (without `has_data`) are missing.
    """
    if not context.contents or data_fd is None:
        for path, entry in _entries(context, blocks, listed, sums):
            if context.contents and not has_data and entry.blake3 is not None:
                sink.take_missing(path, entry)
        return
    with FolderStack(data_fd) as stack:
        contents = sink.contents = ContentChecker(data_fd, sink.take_done, all_digests=context.all_digests)
        with ExitStack() as ending:
            ending.callback(contents.close)  # also where an interrupt ends `finish`: a thread left over would keep the process
            ending.callback(contents.finish)
            tree = TreeComparison(stack, sink)
            for path, entry in _entries(context, blocks, listed, sums):
                tree.admit(path, entry)
            tree.finish()


def _entries(
    context: Context, blocks: Iterator[bytes], listed: ManifestResult, sums: tuple[SumsComparison, ...]
) -> Iterator[tuple[bytes, Entry]]:
    """Every entry of the manifest, its link recorded, and its lines expected in the sums."""
    sha256sums, blake3sums = sums
    add_link = listed.hard_links.add
    for path, line in read_manifest(blocks, listed.reader):
        context.progress.require_wanted()
        if isinstance(line, Entry):
            add_link(path, line)
            if line.blake3 is not None:
                sha256_line, blake3_line = entry_lines(DATA, path, line)
                sha256sums.expect(sha256_line)
                blake3sums.expect(blake3_line)
            yield path, line
