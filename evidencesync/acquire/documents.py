"""Fetches the documents of a far vault into a folder of this machine, laid out as the vault is, without any evidence.

What reads the documents of a vault then reads these, with the same checks. They are as good as the vault's word: signatures say
who stated what, and what this machine remembers tells an older copy. Whether the evidence is there, they do not show.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

from evidencesync.acquire.connect import pause_seconds
from evidencesync.acquire.reading_session import ReadingSession
from evidencesync.connection.link import Link
from evidencesync.connection.process import SteadyClock
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.sshsig import SigningKey
from evidencesync.errors import BusyError, LimitExceededError, LinkLostError, ProtocolError, VersionError
from evidencesync.evidence.display import safe_text
from evidencesync.files.temporary import writing_temporary
from evidencesync.files.unread import mark_unread
from evidencesync.limits import MAX_FETCHED_BYTES, MAX_FETCHED_DOCUMENTS, MAX_HEADER_LINE, MIB
from evidencesync.protocol.document_messages import (
    AllManifestsAsk,
    DocumentBatch,
    DocumentsAsk,
    ManifestsAsk,
    Stray,
    Unread,
)
from evidencesync.protocol.messages import ASKING_VERSION, MANIFESTS_VERSION, TRUST_VERSION, Message, Welcome
from evidencesync.protocol.trust_messages import OwnDocumentsAsk
from evidencesync.vault.documents import LARGE, document_limit, is_folder_place
from evidencesync.vault.layout import ACQUISITIONS, CASES, CUSTODY, ITEM_FOLDERS, MANIFEST, acquisition_number
from evidencesync.vault.ledger import is_stray
from evidencesync.vault.vault import Vault

_NOWHERE: Final = "no folder"  # no name that anything of a vault has
_FEWER: Final = "Where it is that large, take one part after the other: --case CASE, and --item ITEM."
_MOST_PLACES: Final = 10_000  # folders that are known to be there
_MOST_TEXT: Final = 1000
_DEPTH: Final = 4  # names in the path of a folder of an item


Count = Callable[[int, int], None]
"""Is told how many documents and bytes have come."""


@dataclass(frozen=True, slots=True)
class DocumentsRequest:
    """Which documents are wanted, and who reads them. `vault` is the path as the other end knows it.

    `whole`: the acquisitions of the one item of which all of the manifest, and the rows of chunks, are wanted; 0 is the last one.
    Without `rows`, these are left out, if the vault's end knows how. None: all of every manifest, and no rows. `least_bytes`:
    what a planned push needs at the least.
    """

    vault: bytes
    signer: SigningKey
    session: str
    case: str | None = None
    item: str | None = None
    whole: tuple[int, ...] | None = ()
    rows: bool = True
    least_bytes: int = 0
    timeout_seconds: float = 60.0
    retries: int = 0
    own: bool = False
    """Whether only what the vault states about itself is wanted, and of no case anything."""
    purpose: Literal["read", "trust"] = "read"


def fetch_documents(
    connect: Callable[[], Link],
    request: DocumentsRequest,
    recall: Callable[[str], None],
    make_folder: Callable[[], Path],
    now: Callable[[], int] | None = None,
    count: Count = lambda _documents, _size: None,
) -> tuple[Vault, ReadingSession]:
    """Fetches the documents into an empty folder that only this user can enter, and opens it as a vault.

    Also returns the session, for further questions: the caller closes it. `recall` is called with the vault's id before anything
    is read: what this machine remembers must be older than what is shown. `make_folder` makes one such folder for each attempt.
    `count` is told how many documents and bytes have come. A lost link begins again. Raises what the vault refuses us with,
    ProtocolError, LimitExceededError, LinkLostError, StorageError, NoSpaceError.
    """
    for attempt in range(request.retries):
        folder = make_folder()
        try:
            return _fetch_once(connect(), request, recall, folder, now or SteadyClock(), count)
        except (LinkLostError, BusyError):
            shutil.rmtree(folder, ignore_errors=True)  # it is of no use: a vault that hangs up each time must not fill the disk
            time.sleep(pause_seconds(attempt))
    return _fetch_once(connect(), request, recall, make_folder(), now or SteadyClock(), count)


def _fetch_once(
    link: Link,
    request: DocumentsRequest,
    recall: Callable[[str], None],
    folder: Path,
    now: Callable[[], int],
    count: Count,
) -> tuple[Vault, ReadingSession]:
    session = ReadingSession(link, request, now, recall, request.least_bytes, request.purpose)
    try:
        session.ask(_question(request, session.welcome))
        return take_documents(session, folder, request.whole, count), session
    except BaseException:
        session.close()
        raise


def take_documents(
    session: ReadingSession, folder: Path, whole: tuple[int, ...] | None = (), count: Count = lambda _documents, _size: None
) -> Vault:
    """Stores the documents that are the answer to a question, in an empty folder, and opens it as a vault."""
    copy = _Copy(folder, whole, count)
    while copy.takes(session.expect(DocumentBatch, Unread, Stray), session.data):
        pass
    return _opened(folder, session.welcome)


def _question(request: DocumentsRequest, welcome: Welcome) -> DocumentsAsk | AllManifestsAsk | OwnDocumentsAsk:
    """Raises VersionError for a vault's end that cannot be asked for all of every manifest, or for its own documents alone."""
    if request.own:
        if welcome.version < TRUST_VERSION:
            raise VersionError(
                f"the vault's evidencesync ({safe_text(welcome.tool, 60)}) does not show whom it trusts from afar",
                hint="Update it there, or run the command on the vault's machine.",
            )
        return OwnDocumentsAsk()
    if request.whole is None:
        if welcome.version < MANIFESTS_VERSION:
            raise VersionError(
                f"the vault's evidencesync ({safe_text(welcome.tool, 60)}) does not show all of its manifests",
                hint="Update it there, or run the command on the vault's machine.",
            )
        return AllManifestsAsk(request.case, request.item)
    asks = DocumentsAsk if request.rows or welcome.version < ASKING_VERSION else ManifestsAsk
    return asks(request.case, request.item, list(request.whole))


def _opened(folder: Path, welcome: Welcome) -> Vault:
    vault = Vault.open(folder)
    vault.fetched = True
    stated = (vault.settings.id, vault.keys.current)
    if stated != (welcome.vault_id, PublicKey.from_blob(welcome.vault_key).fingerprint):
        raise ProtocolError("the vault shows documents of another vault than it says it is")
    return vault


class _Copy:
    """The folder into which documents are stored."""

    def __init__(self, folder: Path, whole: tuple[int, ...] | None, count: Count = lambda _documents, _size: None) -> None:
        """`whole`: the acquisitions of which the large documents were asked for; None: the manifests of all."""
        self._folder = folder
        self._tell = count
        self._bytes = 0
        self._large = 0 if whole is None else len(whole) * len(LARGE)
        self._large_names = LARGE - {MANIFEST} if whole is None else LARGE  # of all manifests the bytes are counted
        self._places: set[str] = set()
        self._count = 0
        self._size = 0
        for name in (CUSTODY, CASES):
            with writing_temporary():
                self._make(name)

    def takes(self, message: Message, data: Callable[[int], Iterator[memoryview]]) -> bool:
        """Stores what came; False for the last message. Raises ProtocolError, LimitExceededError."""
        match message:
            case Unread():
                self._mark(message.path, safe_text(message.text, _MOST_TEXT))
            case Stray():
                self._add_stray(message.folder, message.name)
            case DocumentBatch():
                self.store(message.files, data)
                return bool(message.files)
        return True

    def _mark(self, path: str, text: str) -> None:
        """Marks a document, or a folder that has nothing in it, as unread: whoever reads the copy meets the vault's refusal."""
        self._taken_size(path, 0)
        self._make_around(path)
        place = self._folder / path
        with writing_temporary():
            if path in self._places:  # it was made with its item, and is empty
                place.rmdir()
                self._places.discard(path)
            try:
                mark_unread(place, text)
            except FileExistsError as error:
                raise ProtocolError(f"the vault shows what it says it cannot read: {safe_text(path, 200)}") from error  # 2

    def _add_stray(self, folder: str, name: bytes) -> None:
        """Makes what lies there and is no document: among custody records an empty file, among acquisitions an empty folder."""
        shown, parts = os.fsdecode(name), folder.split("/")
        is_custody = parts[-1] == CUSTODY and b"/" not in name and b"\0" not in name and is_stray(shown)
        is_acquisition = parts[-1] == ACQUISITIONS and acquisition_number(shown) is not None
        if not (folder == CUSTODY or (is_folder_place(folder) and len(parts) == _DEPTH)) or not (is_custody or is_acquisition):
            raise ProtocolError(f"the vault shows something that lies nowhere: {safe_text(name, 200)}")  # 1
        self._make_around(f"{folder}/")
        self._count_one()
        with writing_temporary():
            try:
                if is_custody:
                    (self._folder / folder / shown).touch(0o400, exist_ok=False)
                else:
                    (self._folder / folder / shown).mkdir(0o700)
            except FileExistsError as error:
                raise ProtocolError(f"the vault shows something twice: {safe_text(name, 200)}") from error  # 2

    def store(self, files: list[tuple[str, int]], data: Callable[[int], Iterator[memoryview]]) -> None:
        """Stores documents whose bytes come one after the other.

        1. Each is a document, at its path in a vault, and no larger than such a one may be. In the place of one that is named as
           larger comes an empty file of such a size: it is as malformed here as it is there. In the place of a folder that is a
           link, and of a document that is no regular file, comes a link that leads nowhere: nobody follows it.
        2. None comes twice.
        3. There are no more of them than any vault has, and no more large ones than were asked for.

        Raises ProtocolError (1, 2), LimitExceededError (1, 3).
        """
        sizes = [self._taken_size(path, size) for path, size in files]
        blocks = _Blocks(data(sum(sizes)))
        for (path, stated), size in zip(files, sizes, strict=True):
            if _is_link(path, stated):
                with writing_temporary():
                    self._link(path)
                continue
            with ExitStack() as stack:
                with writing_temporary():
                    file = stack.enter_context(self._create(path))
                    if stated > size:
                        file.truncate(min(stated, MIB + 1))  # more than any small one has
                for block in blocks.take(size):
                    with writing_temporary():
                        file.write(block)
                    self._bytes += len(block)
                    self._tell(self._count, self._bytes)
                with writing_temporary():
                    file.close()  # small ones are written only here

    def _taken_size(self, path: str, size: int) -> int:
        """Returns how many bytes of a document follow."""
        limit = 0 if is_folder_place(path) else document_limit(path)
        if limit is None:
            raise ProtocolError(f"the vault shows something that is no document: {safe_text(path, 200)}")  # 1
        if size > limit + 2:
            raise LimitExceededError(f"a document of {size} bytes: {safe_text(path, 200)}")  # 1
        size = 0 if size > limit else size
        is_large = path.rpartition("/")[2] in self._large_names and size > 2 * MAX_HEADER_LINE  # the ends of one are no more
        self._large -= is_large
        self._size += 0 if is_large else size
        self._count_one()
        return size

    def _count_one(self) -> None:
        self._count += 1
        if self._count > MAX_FETCHED_DOCUMENTS or self._size > MAX_FETCHED_BYTES or self._large < 0:
            raise LimitExceededError("the vault shows more documents than are taken at once", hint=_FEWER)  # 3

    def _link(self, path: str) -> None:
        self._make(path.rpartition("/")[0])
        try:
            (self._folder / path).symlink_to(_NOWHERE)
        except FileExistsError as error:
            raise ProtocolError(f"the vault shows a folder and a link in its place: {safe_text(path, 200)}") from error  # 2

    def _create(self, path: str) -> BinaryIO:
        self._make_around(path)
        try:
            return open(self._folder / path, "xb", opener=_as_stored)  # the caller closes it
        except FileExistsError as error:
            raise ProtocolError(f"the vault shows a document twice: {safe_text(path, 200)}") from error  # 2

    def _make_around(self, path: str) -> None:
        """Makes the folder of a document, and with it those of its item, also the empty ones."""
        *folders, _ = parts = path.split("/")
        if folders:
            self._make("/".join(folders))
        if parts[0] == CASES and len(parts) >= _DEPTH:
            for name in ITEM_FOLDERS:
                place = "/".join((*parts[:3], name))
                if place not in self._places and not (self._folder / place).is_symlink():
                    self._make(place)

    def _make(self, folder: str) -> None:
        if folder in self._places:
            return
        if len(self._places) >= _MOST_PLACES:
            self._places.clear()  # a vault may name millions of folders
        try:
            for made in (*reversed(Path(folder).parents[:-1]), Path(folder)):
                (self._folder / made).mkdir(0o700, exist_ok=True)  # as in a vault, whatever the umask
        except FileExistsError as error:
            raise ProtocolError(f"the vault shows a document behind a link: {safe_text(folder, 200)}") from error  # 1
        self._places.add(folder)


def _as_stored(path: str, flags: int) -> int:
    """Opens a new file with the mode that documents have in a vault: another one is a finding of `verify`."""
    return os.open(path, flags, 0o400)


def _is_link(path: str, stated: int) -> bool:
    return is_folder_place(path) or stated == (document_limit(path) or 0) + 2


class _Blocks:
    """Cuts blocks anew: documents lie in them one after the other."""

    def __init__(self, blocks: Iterator[memoryview]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def take(self, size: int) -> Iterator[memoryview]:
        """Yields the next `size` bytes. Raises what the blocks raise."""
        while size:
            if not self._rest:
                self._rest = next(self._blocks)
            part, self._rest = self._rest[:size], self._rest[size:]
            size -= len(part)
            yield part
