"""Turns pages of manifest lines into the tree of an acquisition, page by page and in order.

A page is read as soon as those before it are, so that what the vault lacks of it can be asked for early. It is stored
when all before it are stored and every larger content that it lists is assembled.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from evidencesync.custody.documents import ManifestHeader
from evidencesync.custody.manifest import CheckedLine, ManifestReader
from evidencesync.delta.recipe import Recipe
from evidencesync.errors import DigestMismatchError, LimitExceededError, ProtocolError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest, blake3_of, sha256_of
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.moment import parse_file_time
from evidencesync.limits import MAX_PAGE_LINES, SMALL_FILE
from evidencesync.session.blocks import split_blocks
from evidencesync.session.events import FilesArrived, PageArrived, PageNamed
from evidencesync.session.receiver import Receiver
from evidencesync.transfer.intake.assembly import AssembledContent
from evidencesync.transfer.intake.basis import tree_key
from evidencesync.transfer.intake.elsewhere import claims
from evidencesync.transfer.intake.side import VaultSide
from evidencesync.transfer.intake.streams import StreamIntake
from evidencesync.vault.content import StagedContent
from evidencesync.vault.leftovers import Leftovers, is_leftover
from evidencesync.vault.location import Location
from evidencesync.vault.tree import TreeWriter


class Shelf(Protocol):
    """Where an acquisition is put together."""

    @property
    def tree(self) -> TreeWriter:
        """Makes its `data/`."""

    def adopt(self, path: bytes, content: StagedContent, mtime_ns: int | None) -> None:
        """Moves a finished content to its place in `data/`."""

    def note_stored(self, size: int) -> None:
        """So many bytes were written."""

    def append_manifest(self, lines: bytes) -> None:
        """Adds to the manifest."""

    def append_recipe(self, recipe: Recipe) -> None:
        """Adds to chunks.bin."""

    def add_to_sums(self, lines: Iterable[CheckedLine]) -> None:
        """Adds the files among a page's lines to the sums files."""


@dataclass(slots=True)
class PreviousManifest:
    """A manifest that the vault has: where each of its pages lies in it, and how to read them.

    That of the acquisition before, or (with a negative number) one that an earlier session had received in part.
    """

    acquisition: int
    positions: dict[ChunkDigest, tuple[int, int]]
    read: Callable[[int, int], bytes]


@dataclass(slots=True)
class StoredTally:
    """How contents came to lie in the new acquisition: files and bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """Counts one content."""
        self.files += 1
        self.bytes += size


@dataclass(slots=True)
class Tallies:
    """The four ways."""

    written: StoredTally = field(default_factory=StoredTally)
    linked: StoredTally = field(default_factory=StoredTally)
    reflinked: StoredTally = field(default_factory=StoredTally)
    copied: StoredTally = field(default_factory=StoredTally)

    def add_assembled(self, size: int, shared: int) -> None:
        """Counts an assembled content: once as a file, its bytes by whether they lie in blocks of a published file."""
        if not shared:
            self.written.add(size)
            return
        self.reflinked.add(shared)
        self.written.bytes += size - shared


@dataclass(slots=True)
class _Page:
    lines: bytes | None = None
    known_from: PreviousManifest | None = None
    with_files: bool = False
    proofs: bytes = b""
    read: list[CheckedLine] | None = None
    contents: list[memoryview | Location | None] = field(default_factory=list)
    arrived: list[FilesArrived] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    next_line: int = 0
    next_content: int = 0


class PageIntake:
    """Takes the events of pages. `check_header` is called once, before anything of the manifest is stored."""

    def __init__(
        self,
        vault: VaultSide,
        streams: StreamIntake,
        shelf: Shelf,
        previous: Sequence[PreviousManifest],
        leftovers: Leftovers,
        check_header: Callable[[ManifestHeader], None],
    ) -> None:
        self.reader = ManifestReader()
        self.tallies = Tallies()
        self.verified_on_disk = bytearray()
        """One byte for each content in manifest order: 1 where the disk was read for both digests when it was linked."""
        self.literal_bytes = 0
        self.manifest_sha512 = hashlib.sha512()
        self._vault = vault
        self._receiver = vault.receiver
        self._index = vault.index
        self._scope = vault.scope
        self._ask_index = vault.index.known(vault.scope) > 0
        self._basis = vault.basis
        self._streams = streams
        self._shelf = shelf
        self._manifests = previous
        self._previous = next((manifest for manifest in previous if manifest.acquisition > 0), None)
        self._leftovers = leftovers
        self._check_header = check_header
        self._from_disk = vault.from_disk
        self._pages: dict[int, _Page] = {}
        self._next_to_read = 0
        self._next_to_store = 0
        self._acknowledged = 0

    @property
    def is_idle(self) -> bool:
        """Whether every page that was announced is stored."""
        return not self._pages

    @property
    def stored(self) -> int:
        """How many pages are stored."""
        return self._next_to_store

    def rewind(self, receiver: Receiver) -> None:
        """Goes on with a sender whose link was lost, and who names all pages again that are not stored.

        Pages whose lines were read stay; what they lack is asked for when they are named.
        """
        self._receiver = receiver
        self._pages = {number: page for number, page in self._pages.items() if page.read is not None}
        for page in self._pages.values():
            self._unpack(page)
        self._acknowledged = self._next_to_store

    def on_named(self, event: PageNamed) -> None:
        """A page is named: it is here, or some manifest has it, or it will be sent."""
        page = self._pages.get(event.number)
        if page is not None:
            self._name_again(event.number, page)
            return
        page = self._pages[event.number] = _Page()
        for manifest in self._manifests:
            if event.digest in manifest.positions:
                page.lines = manifest.read(*manifest.positions[event.digest])
                page.known_from = manifest
                break
        self._receiver.answer_page(event.number, known=page.known_from is not None)
        self.advance()

    def _name_again(self, number: int, page: _Page) -> None:
        self._receiver.answer_page(number, known=True)
        missing = [content is None for content in page.contents]
        if any(missing):
            self._receiver.want_files(number, missing)
        self.advance()

    def on_arrived(self, event: PageArrived) -> None:
        """The lines of a page."""
        page = self._pages.setdefault(event.number, _Page())
        page.lines, page.with_files, page.proofs = event.lines, event.with_files, event.proofs
        self.advance()

    def on_files(self, event: FilesArrived) -> None:
        """Small contents of a page."""
        page = self._pages[event.page]
        page.arrived.append(event)
        self.literal_bytes += sum(map(len, event.blocks))
        self.advance()

    def advance(self) -> None:
        """Reads and stores what is next in order, as far as it is there."""
        while (page := self._pages.get(self._next_to_read)) is not None and page.lines is not None:
            self._read(self._next_to_read, page, page.lines)
            self._next_to_read += 1
        while (page := self._pages.get(self._next_to_store)) is not None and page.read is not None:
            self._unpack(page)
            if not self._store(self._next_to_store, page):
                break
            del self._pages[self._next_to_store]
            self._next_to_store += 1
        if self._acknowledged != self._next_to_store:
            self._acknowledged = self._next_to_store
            self._receiver.pages_stored(self._acknowledged)

    # Reading.

    def _read(self, number: int, page: _Page, lines: bytes) -> None:
        """Checks a page's lines, and asks for those of its small contents that the vault lacks."""
        if lines.count(b"\n") > MAX_PAGE_LINES:
            raise LimitExceededError("a page has more lines than any honest one")
        first = self.reader.header is None
        page.read = self.reader.read_lines(lines)
        if first and self.reader.header is not None:
            self._check_header(self.reader.header)
        self._shelf.append_manifest(lines)
        self.manifest_sha512.update(lines)
        page.lines = None
        small = [(path, line) for path, line in page.read if isinstance(line, Entry) and _is_small(line)]
        page.sizes = [line.size or 0 for _, line in small]
        page.contents = [None] * len(small)
        if page.with_files or not small:
            return
        page.contents = list(self._known(page, small))
        missing = [content is None for content in page.contents]
        if any(missing):
            self._receiver.want_files(number, missing)

    def _known(self, page: _Page, small: list[tuple[bytes, Entry]]) -> list[Location | None]:
        digests = [_blake3_of(entry) for _, entry in small]
        if page.known_from is not None:
            number = page.known_from.acquisition
            named = [(path, entry.size or 0, digest) for (path, entry), digest in zip(small, digests, strict=True)]
            if number < 0:
                return [self._leftovers.small_file(number, *file) for file in named]
            return [Location(self._scope.case, self._scope.item, number, *file) for file in named]
        found = self._index.find_contents(digests, self._scope) if self._ask_index else {}
        if self._vault.elsewhere is not None and page.proofs:
            claimed = claims(digests, page.sizes, page.proofs)
            found |= self._vault.elsewhere.find_contents([claim for claim in claimed if claim[0] not in found])
        places = [found.get(digest) for digest in digests]
        return [
            place if place is not None and place.size == size else None for place, size in zip(places, page.sizes, strict=True)
        ]

    # Storing.

    def _unpack(self, page: _Page) -> None:
        """Puts the small contents that have arrived in their places."""
        for event in page.arrived:
            if len(event.present) != len(page.sizes):
                raise ProtocolError("the files of a page do not fit its lines")
            numbers = [number for number, present in enumerate(event.present) if present]
            parts = split_blocks(event.blocks, [page.sizes[number] for number in numbers])
            for number, part in zip(numbers, list(parts), strict=True):
                page.contents[number] = part
        page.arrived.clear()

    def _store(self, number: int, page: _Page) -> bool:
        """Makes what the page lists, from where it last stopped; False where something is still missing."""
        lines = page.read or []
        while page.next_line < len(lines):
            path, line = lines[page.next_line]
            if isinstance(line, Entry):
                if line.blake3 is not None:
                    if not self._store_content(number, page, path, line):
                        return False
                elif line.type == "directory":
                    self._shelf.tree.make_directory(path, _mtime(line))
            page.next_line += 1
        self._shelf.add_to_sums(lines)
        return True

    def _store_content(self, number: int, page: _Page, path: bytes, entry: Entry) -> bool:
        size = entry.size or 0
        if size > SMALL_FILE:
            return self._store_large(path, entry, size)
        if size == 0:
            self._write(path, entry, b"")
            return True
        content = page.contents[page.next_content]
        if isinstance(content, Location):
            if self._store_known(path, entry, content):
                page.next_content += 1
                return True
            self._want_again(number, page, leftover=is_leftover(content))
            content = None
        if content is None:
            return False
        self._write(path, entry, content)
        page.next_content += 1
        return True

    def _want_again(self, number: int, page: _Page, *, leftover: bool) -> None:
        """Asks for a content whose basis proved bad. Where that was left in staging, the rest of the page is no better."""
        again = [at == page.next_content for at in range(len(page.contents))]
        if leftover:
            for at in range(page.next_content + 1, len(page.contents)):
                content = page.contents[at]
                again[at] = isinstance(content, Location) and is_leftover(content)
        page.contents = [None if wanted else content for content, wanted in zip(page.contents, again, strict=True)]
        self._receiver.want_files(number, again)

    def _write(self, path: bytes, entry: Entry, content: bytes | memoryview) -> None:
        if blake3_of(content).hex() != entry.blake3:
            raise DigestMismatchError("a file arrived that is not the one that was read at the source")
        self._shelf.tree.create_file(path, content, _mtime(entry))
        if content:
            self._shelf.append_recipe(Recipe(_blake3_of(entry), len(content), b""))
        self._shelf.note_stored(len(content))
        self.tallies.written.add(len(content))
        self.verified_on_disk.append(0)

    def _store_known(self, path: bytes, entry: Entry, location: Location) -> bool:
        """A small file the vault has: linked or copied, once its bytes are seen to be right."""
        size = entry.size or 0
        basis = self._vault.basis_of(location)
        read = basis.read_whole(location)
        if read is None:
            return False
        data, status = read
        if blake3_of(data).hex() != entry.blake3 or (self._from_disk and sha256_of(data).hex() != entry.sha256):
            basis.note_damage(location)
            return False
        if self._link(path, entry, location, size, status):
            return True
        self._shelf.tree.create_file(path, data, _mtime(entry))
        self._shelf.append_recipe(Recipe(_blake3_of(entry), size, b""))
        self.tallies.copied.add(size)
        self.verified_on_disk.append(0)
        return True

    def _link(self, path: bytes, entry: Entry, location: Location, size: int, found: os.stat_result | None = None) -> bool:
        if not is_leftover(location) and (location.case, location.item) != (self._scope.case, self._scope.item):
            return False
        tree = self._basis.tree(tree_key(location))
        if not self._shelf.tree.link(path, tree, location.path, size, _mtime(entry), found):
            return False
        if is_leftover(location):  # in the end it has one name, and was written for this acquisition
            self._shelf.append_recipe(Recipe(_blake3_of(entry), size, b""))
            self.tallies.written.add(size)
            self.verified_on_disk.append(0)
            return True
        self.tallies.linked.add(size)
        self.verified_on_disk.append(int(self._from_disk))
        return True

    def _store_large(self, path: bytes, entry: Entry, size: int) -> bool:
        content = self._streams.take(_blake3_of(entry))
        if content is None:
            if self._streams.is_idle:
                raise ProtocolError("a file is listed whose content was not sent")
            return False
        if content.size != size or (content.sha256 is not None and content.sha256.hex() != entry.sha256):
            raise DigestMismatchError("a content is not the one that the manifest lists")
        if content.existing is not None:
            self._store_existing(path, entry, content, content.existing)
        elif content.staged is not None:
            try:
                self._shelf.adopt(path, content.staged, _mtime(entry))
            finally:
                content.staged.close()
            self._shelf.append_recipe(content.recipe)
            self.tallies.add_assembled(size, content.shared)
            self.verified_on_disk.append(0)
        return True

    def _store_existing(self, path: bytes, entry: Entry, content: AssembledContent, location: Location) -> None:
        """A published file that is the same from end to end: linked in its own item, else copied or reflinked."""
        if self._link(path, entry, location, content.size):
            return
        if self._previous is not None:
            # The content was found under another name, with another time; perhaps this very file is there as well.
            scope, number = self._scope, self._previous.acquisition
            same = Location(scope.case, scope.item, number, path, content.size, content.blake3)
            if self._basis.is_same_file(same, entry, _mtime(entry)) and self._link(path, entry, same, content.size):
                return
        fd = self._basis.fd_of(location)
        if fd is None:
            raise DigestMismatchError("a published file has vanished while it was being used")
        method = self._shelf.tree.copy(path, fd, content.size, _mtime(entry))
        self._shelf.append_recipe(content.recipe)
        (self.tallies.reflinked if method == "reflinked" else self.tallies.copied).add(content.size)
        self.verified_on_disk.append(0)


def _is_small(entry: Entry) -> bool:
    return entry.blake3 is not None and entry.size is not None and 0 < entry.size <= SMALL_FILE


def _blake3_of(entry: Entry) -> Blake3Digest:
    return Blake3Digest(bytes.fromhex(entry.blake3 or ""))


def _mtime(entry: Entry) -> int | None:
    return parse_file_time(entry.mtime) if entry.mtime is not None else None
