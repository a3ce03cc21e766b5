"""Receives pages of manifest lines, and builds the tree of an acquisition from them, page by page and in order.

A page is read as soon as those before it are read, so that missing contents are requested early. It is stored when all before
it are stored and every larger content that it lists is assembled. Pages that an earlier manifest of the item has, or one of an
interrupted session, need not travel.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from evidencesync.custody.documents import ManifestHeader
from evidencesync.custody.hardlinks import HardLinkCheck
from evidencesync.custody.manifest import CheckedLine, ManifestReader
from evidencesync.errors import LimitExceededError, ProtocolError, StorageError
from evidencesync.evidence.digest import Blake3Digest, ChunkDigest
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.files.disk import READ_FLAGS, document_blocks, reading, storing
from evidencesync.ingest.comparison import ManifestComparison
from evidencesync.ingest.context import IngestContext
from evidencesync.ingest.streams import StreamIntake
from evidencesync.ingest.tree import ListedFile, StagingArea, TreeBuilder
from evidencesync.limits import MAX_HEADER_LINE, MAX_MANIFEST_LINE, MAX_PAGE_LINES, SMALL_FILE
from evidencesync.protocol.data_frames import split_blocks
from evidencesync.protocol.pages import is_footer, is_header, page_positions
from evidencesync.protocol.receiver import FilesArrived, PageArrived, PageNamed, Receiver
from evidencesync.vault.item import ItemState
from evidencesync.vault.layout import Location
from evidencesync.vault.resume.leftovers import Leftovers, is_leftover


class PreviousManifest(msgspec.Struct):
    """A manifest that the vault has: offset and length of each page by its digest, and how to read them.

    It is the previous acquisition's, or (with a negative number) one that an interrupted session had received in part.
    """

    acquisition: int
    positions: dict[ChunkDigest, tuple[int, int]]
    read: Callable[[int, int], bytes]

    def read_ends(self) -> tuple[bytes, bytes] | None:
        """Returns the first and the last line; None where the manifest has no such ends. Raises StorageError."""
        places = sorted(self.positions.values())
        if not places or places[0][1] > MAX_HEADER_LINE or places[-1][1] > MAX_HEADER_LINE:
            return None
        header, footer = self.read(*places[0]), self.read(*places[-1])
        return (header, footer) if is_header(header) and is_footer(footer) else None


class _Page(msgspec.Struct):
    lines: bytes | None = None
    known_from: PreviousManifest | None = None
    digest: ChunkDigest | None = None
    with_files: bool = False
    unnamed: bool = False
    read: list[CheckedLine] | None = None
    small: list[ListedFile] = msgspec.field(default_factory=list)
    contents: list[memoryview | Location | None] = msgspec.field(default_factory=list)
    """Of each of the small files: what arrived, or where the vault has it."""
    arrived: list[FilesArrived] = msgspec.field(default_factory=list)
    next_line: int = 0
    next_content: int = 0


class PageIntake:
    """Handles the events of pages. `check_header` is called once, before anything of the manifest is stored.

    `on_page` is called with each page's lines, in order, once they are checked; `comparison` gets the pages, too.
    """

    def __init__(
        self,
        context: IngestContext,
        streams: StreamIntake,
        staging: StagingArea,
        previous: Sequence[PreviousManifest],
        leftovers: Leftovers,
        check_header: Callable[[ManifestHeader], None],
        *,
        on_page: Callable[[bytes, list[CheckedLine]], None] | None = None,
        comparison: ManifestComparison | None = None,
    ) -> None:
        self._on_page = on_page
        self._comparison = comparison
        self.reader = ManifestReader()
        self.hard_links = HardLinkCheck()
        published = next((manifest.acquisition for manifest in previous if manifest.acquisition > 0), None)
        self._builder = TreeBuilder(context, streams, staging, published)
        self.tallies = self._builder.tallies
        self.verified_on_disk = self._builder.verified_on_disk
        self.literal_bytes = 0
        self.manifest_sha512 = hashlib.sha512()
        self._context = context
        self._receiver = context.receiver
        self._index = context.index
        self._scope = context.scope
        self._ask_index = context.index.known(context.scope) > 0
        self._staging = staging
        self._manifests = previous
        self._leftovers = leftovers
        self._check_header = check_header
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
        """Continues with a sender that has reconnected, and that names all pages again that are not stored.

        Pages whose lines were read stay; their missing contents are requested when they are named again. No page is stored before
        that: the answer to its name would come when the sender has already released it.
        """
        self._receiver = receiver
        self._pages = {number: page for number, page in self._pages.items() if page.read is not None}
        for number, page in self._pages.items():
            self._unpack(page)
            page.unnamed = True
            held = sum(len(content) for content in page.contents if isinstance(content, memoryview))
            receiver.hold_page(number, held)  # a sender must not get a second window by losing its link
        self._acknowledged = self._next_to_store

    def on_named(self, event: PageNamed) -> None:
        """Handles a page that is named by its digest: it is here, or an earlier manifest has it, or it will be sent."""
        page = self._pages.get(event.number)
        if page is not None:
            self._name_again(event.number, page)
            return
        page = self._pages[event.number] = _Page()
        for manifest in self._manifests:
            if event.digest in manifest.positions:
                try:
                    page.lines = manifest.read(*manifest.positions[event.digest])
                except StorageError:
                    continue  # a page that cannot be read is not known
                page.known_from, page.digest = manifest, event.digest
                break
        self._receiver.answer_page(event.number, known=page.known_from is not None)
        self.advance()

    def _name_again(self, number: int, page: _Page) -> None:
        page.unnamed = False
        self._receiver.answer_page(number, known=True)
        missing = [content is None for content in page.contents]
        if any(missing):
            self._receiver.want_files(number, missing)
        self.advance()

    def on_arrived(self, event: PageArrived) -> None:
        """Handles the lines of a page."""
        page = self._pages.setdefault(event.number, _Page())
        page.lines, page.with_files = event.lines, event.with_files
        self.advance()

    def on_files(self, event: FilesArrived) -> None:
        """Handles small contents of a page."""
        page = self._pages[event.page]
        page.arrived.append(event)
        self.literal_bytes += sum(map(len, event.blocks))
        self.advance()

    def advance(self) -> None:
        """Reads and stores the next pages in order, as far as they are complete."""
        while (page := self._pages.get(self._next_to_read)) is not None and page.lines is not None:
            self._read(self._next_to_read, page, page.lines)
            self._next_to_read += 1
        while (page := self._pages.get(self._next_to_store)) is not None and page.read is not None:
            self._unpack(page)
            if page.unnamed or not self._store(self._next_to_store, page):
                break
            del self._pages[self._next_to_store]
            self._next_to_store += 1
        if self._acknowledged != self._next_to_store:
            self._acknowledged = self._next_to_store
            self._receiver.pages_stored(self._acknowledged)

    # Reading.

    def _read(self, number: int, page: _Page, lines: bytes) -> None:
        """Checks a page's lines, and requests the small contents that the vault lacks."""
        if lines.count(b"\n") > MAX_PAGE_LINES:
            raise LimitExceededError("a page has more lines than any honest one")
        first = self.reader.header is None
        page.read = self.reader.read_lines(lines)
        if first and self.reader.header is not None:
            self._check_header(self.reader.header)
        for path, line in page.read:
            if isinstance(line, Entry):
                self.hard_links.add(path, line)
        self._staging.append_manifest(lines)
        self.manifest_sha512.update(lines)
        if self._comparison is not None:
            self._comparison.add_page(len(lines), page.digest)
        if self._on_page is not None:
            self._on_page(lines, page.read)
        page.lines = None
        page.small = [ListedFile.of(path, line) for path, line in page.read if isinstance(line, Entry) and _is_small(line)]
        page.contents = [None] * len(page.small) if page.with_files or not page.small else list(self._known(page))
        self._find_repeated(page)
        if page.with_files:
            return
        missing = [content is None for content in page.contents]
        if any(missing):
            self._receiver.want_files(number, missing)

    def _find_repeated(self, page: _Page) -> None:
        """Finds small contents that this session has listed before: they will lie where they were listed first.

        Where all contents of a page come unasked, this only remembers where they will lie.
        """
        known = self._context.session_contents
        for at, file in enumerate(page.small):
            if page.contents[at] is not None:
                continue
            if not page.with_files:
                page.contents[at] = known.find_small(file.blake3, file.size)
            if page.contents[at] is None:
                known.add_small(file.blake3, file.path, file.size)

    def _known(self, page: _Page) -> list[Location | None]:
        small = page.small
        if page.known_from is not None:
            number = page.known_from.acquisition
            if number > 0:
                case, item = self._scope.case, self._scope.item
                return [Location(case, item, number, file.path, file.size, file.blake3) for file in small]
            staged = [self._leftovers.small_file(number, file.path, file.size, file.blake3) for file in small]
            return self._staged(staged, [file.blake3 for file in small])
        found = self._index.find_contents([file.blake3 for file in small], self._scope) if self._ask_index else {}
        places = [(found.get(file.blake3), file.size) for file in small]
        return [place if place is not None and place.size == size else None for place, size in places]

    def _staged(self, staged: list[Location | None], digests: list[Blake3Digest]) -> list[Location | None]:
        """Finds files of an interrupted session. It may lack some of them, and some are links to published files."""
        linked = [location is not None and self._leftovers.has_other_names(location) for location in staged]
        if all(staged) and not any(linked):
            return staged
        published = self._index.find_contents(digests, self._scope)
        places = list(staged)
        for at, digest in enumerate(digests):
            found = published.get(digest)
            if found is not None and (staged[at] is None or (linked[at] and self._is_own(found))):
                places[at] = found
        return places

    def _is_own(self, location: Location) -> bool:
        """Returns whether it is published, and in this item: then it is linked, and counted as linked."""
        return not is_leftover(location) and (location.case, location.item) == (self._scope.case, self._scope.item)

    # Storing.

    def _unpack(self, page: _Page) -> None:
        """Assigns the small contents that have arrived to their lines."""
        for event in page.arrived:
            if len(event.present) != len(page.small):
                raise ProtocolError("the files of a page do not fit its lines")
            numbers = [number for number, present in enumerate(event.present) if present]
            parts = split_blocks(event.blocks, [page.small[number].size for number in numbers])
            for number, part in zip(numbers, list(parts), strict=True):
                page.contents[number] = part
        page.arrived.clear()

    def _store(self, number: int, page: _Page) -> bool:
        """Builds the entries of a page, from where it last stopped; False where a content is still missing."""
        lines = page.read or []
        while page.next_line < len(lines):
            path, line = lines[page.next_line]
            if isinstance(line, Entry):
                if line.blake3 is not None:
                    if not self._store_content(number, page, path, line):
                        return False
                elif line.type == "directory":
                    self._builder.make_directory(path, line)
            page.next_line += 1
        self._staging.add_to_sums(lines)
        return True

    def _store_content(self, number: int, page: _Page, path: bytes, entry: Entry) -> bool:
        if not _is_small(entry):
            file = ListedFile.of(path, entry)
            if file.size:
                return self._builder.store_large(file)
            self._builder.write(file, b"")
            return True
        file, content = page.small[page.next_content], page.contents[page.next_content]
        if isinstance(content, Location):
            if self._builder.store_known(file, content):
                page.next_content += 1
                return True
            self._want_again(number, page, leftover=is_leftover(content))
            content = None
        if content is None:
            return False
        self._builder.write(file, content)
        page.next_content += 1
        return True

    def _want_again(self, number: int, page: _Page, *, leftover: bool) -> None:
        """Requests a content whose basis is damaged. Where that basis is a leftover, all leftovers of the page are requested."""
        again = [at == page.next_content for at in range(len(page.contents))]
        if leftover:
            for at in range(page.next_content + 1, len(page.contents)):
                content = page.contents[at]
                again[at] = isinstance(content, Location) and is_leftover(content)
        page.contents = [None if wanted else content for content, wanted in zip(page.contents, again, strict=True)]
        self._receiver.want_files(number, again)


def _is_small(entry: Entry) -> bool:
    return entry.blake3 is not None and entry.size is not None and 0 < entry.size <= SMALL_FILE


def previous_manifest(state: ItemState) -> list[PreviousManifest]:
    """Returns the previous acquisition's manifest, so that pages of unchanged files need not travel; [] before the first.

    Raises StorageError, MissingOrExtraError where it cannot be read: then it is no basis, and nothing else follows.
    """
    if state.previous_manifest is None:
        return []
    return [_manifest_at(state.previous_manifest, state.next_acquisition - 1)]


def leftover_manifests(leftovers: Leftovers) -> list[PreviousManifest]:
    """Returns the manifests that interrupted sessions of the item had received; each page once, from the latest that has it.

    So memory does not grow with the number of sessions that began with the same pages.
    """
    found: list[PreviousManifest] = []
    seen: set[ChunkDigest] = set()
    for acquisition, path in leftovers.manifests():
        try:
            manifest = _manifest_at(path, acquisition)
        except StorageError:
            continue  # not needed: its pages travel again
        manifest.positions = {digest: place for digest, place in manifest.positions.items() if digest not in seen}
        seen.update(manifest.positions)
        if manifest.positions:
            found.append(manifest)
    return found


def _manifest_at(manifest: Path, acquisition: int) -> PreviousManifest:
    shown = f"read {safe_text(os.fsencode(manifest), 300)}"
    with storing(shown), _opened(manifest) as file:
        positions = page_positions(_honest_lines(file))

    def read(offset: int, length: int) -> bytes:
        with storing(shown), _opened(manifest) as file:
            file.seek(offset)
            return file.read(length)

    return PreviousManifest(acquisition, positions, read)


def _opened(manifest: Path) -> BinaryIO:
    return reading(os.open(manifest, READ_FLAGS))


def _honest_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yields the lines, up to one that is too long: then this is no manifest, and no page can be found behind it."""
    rest = b""
    for block in document_blocks(file):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if len(line) >= MAX_MANIFEST_LINE:
                return
            yield line + b"\n"
        if len(rest) > MAX_MANIFEST_LINE:
            return
    if rest:
        yield rest
