"""Builds the acquisition of one session in the staging area. Nothing in it is evidence before it is published.

`incoming/SESSION/acquisition/` becomes `acquisitions/NNNN` by one rename; `incoming/SESSION/contents/` holds large contents
while they are assembled, and `incoming/SESSION/journal` lists what they hold so far. The next session continues from what a
session leaves behind (`evidencesync.vault.resume.leftovers`).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from evidencesync.custody.documents import NotInSums
from evidencesync.custody.manifest import CheckedLine
from evidencesync.delta.recipe import MAGIC, Recipe, encode_single
from evidencesync.errors import InternalError, PathEscapeError, UsageError
from evidencesync.evidence.digest import Blake3Digest, Buffer
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import FOLDER_FLAGS, FOLDER_MODE, READ_FLAGS, close_quietly, opened_folder, storing, sync_file_system
from evidencesync.files.folders import FolderStack, remove_tree
from evidencesync.limits import MIB
from evidencesync.vault.item import VaultItem
from evidencesync.vault.journal import Journal
from evidencesync.vault.layout import CHUNKS, DATA, INCOMING, MANIFEST, STAGED_ACQUISITION, ItemLayout
from evidencesync.vault.space import Room
from evidencesync.vault.staged_files import SpooledRows, StagedContent, StreamedDocument, SumsWriter, verify_on_disk
from evidencesync.vault.tree import TreeReader, TreeWriter, kept_names

CHECKPOINT_BYTES: Final = 256 * MIB
"""Bytes that a power cut may cost at most, besides those of a checkpoint that is running."""


class Checkpoints:
    """Syncs the staging area's file system in a thread, each time that CHECKPOINT_BYTES were stored.

    One sync at a time: where the disk is slower than the link, the next one begins after it. A failed sync is raised by the
    next call here, because the system reports a lost write only once.
    """

    def __init__(self, session_fd: int, before: Callable[[], None]) -> None:
        """`before` runs in the caller's thread, and passes buffered data to the operating system."""
        self._fd = session_fd
        self._before = before
        self._stored = 0
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[bool] | None = None

    def add_stored(self, size: int) -> None:
        """Counts stored bytes, and starts a sync when it is due. Raises StorageError when an earlier sync has failed."""
        self._stored += size
        if self._stored < CHECKPOINT_BYTES:
            return
        if self._running is not None and not self._running.done():
            return
        self._raise_failure()
        self._stored = 0
        self._before()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._running = self._pool.submit(sync_file_system, self._fd, "the staging area")

    def close(self) -> None:
        """Waits for a running sync. Raises StorageError when it fails."""
        self._wait()
        self._raise_failure()

    def discard(self) -> None:
        """Waits for a running sync and ignores its result: nothing will be published."""
        self._wait()

    def _wait(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    def _raise_failure(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            running.result()


_LOOK_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def take_over(
    session: TreeReader, leftover: bytes, dir_fd: int, name: str, path: Path, room: Room | None = None
) -> StagedContent | None:
    """Moves a session's file into `contents/` (`dir_fd`) under a new name, and opens it there with its bytes.

    None where that is not possible. `leftover` is its path below the session's folder, and is opened name by name, through no
    link: an edited journal cannot lead elsewhere. A file with a second name is never used: it might be a file of a published
    acquisition.
    """
    try:
        folder, leftover_name = session.locate(leftover)
        fd = os.open(leftover_name, _LOOK_FLAGS, dir_fd=folder)
    except (OSError, PathEscapeError):
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            return None
        os.fchmod(fd, 0o600)  # a complete file was made read-only
        os.rename(leftover_name, name, src_dir_fd=folder, dst_dir_fd=dir_fd)
        writable = os.open(name, _WRITE_FLAGS, dir_fd=dir_fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    moved = os.fstat(writable)
    if (moved.st_dev, moved.st_ino, moved.st_nlink) != (found.st_dev, found.st_ino, 1):
        os.close(writable)
        return None
    return StagedContent(dir_fd, name, path, writable, room)


ACQUISITION: Final = STAGED_ACQUISITION
CONTENTS: Final = "contents"
_SESSION: Final = re.compile(r"[0-9a-f]{32}")


def is_session_id(name: str) -> bool:
    """Whether a name can be a session's id, and so the name of its folder."""
    return _SESSION.fullmatch(name) is not None


def content_name(number: int) -> str:
    """Returns the name in `contents/` of the session's content with that number."""
    return f"{number:08x}"


def check_session_id(session: str) -> None:
    """Raises UsageError for a text that cannot be a session's id."""
    if not is_session_id(session):
        raise UsageError(f"not a session id: {safe_text(session, 80)}")


def opened_sessions(item: ItemLayout) -> Iterator[tuple[str, int]]:
    """Yields the staging areas of an item, each with a descriptor that is valid until the next one."""
    with opened_folder(item.root) as root, opened_folder(INCOMING, root) as incoming:
        with storing("list staging areas"):
            names = [name for name in os.listdir(incoming) if is_session_id(name)]
        for name in names:
            try:
                folder = os.open(name, FOLDER_FLAGS, dir_fd=incoming)
            except OSError:
                continue  # removed just now, or not a folder
            try:
                yield name, folder
            finally:
                os.close(folder)


class Staging:
    """One session's staging area, open for writing. Needs the item's lock for as long as it lives. Not thread-safe.

    Usage: `tree`, `new_content`, `append_manifest`, `append_recipe`, `add_to_sums` while evidence arrives; `finish`;
    `sync`; read back; `publish`. Every method raises NoSpaceError or StorageError when the disk refuses.
    """

    def __init__(self, item: VaultItem, session: str, session_fd: int) -> None:
        """Takes over the descriptor of the empty session folder. Use `create`."""
        self.item = item
        self.session = session
        self.session_fd = session_fd
        self._finished = False
        with storing("make the staging area"):
            for name in (ACQUISITION, CONTENTS):
                os.mkdir(name, FOLDER_MODE, dir_fd=session_fd)
            self.contents_fd = os.open(CONTENTS, FOLDER_FLAGS, dir_fd=session_fd)
            self.acquisition_fd = os.open(ACQUISITION, FOLDER_FLAGS, dir_fd=session_fd)
            os.fchmod(self.acquisition_fd, FOLDER_MODE)
            os.mkdir(DATA, FOLDER_MODE, dir_fd=self.acquisition_fd)
            names = kept_names(session_fd)
            self.tree = TreeWriter(os.open(DATA, FOLDER_FLAGS, dir_fd=self.acquisition_fd), names)
        self.journal = Journal(session_fd)
        self._checkpoints = Checkpoints(session_fd, self._before_checkpoint)
        self.manifest = StreamedDocument(self.acquisition_fd, MANIFEST)
        self.recipes = StreamedDocument(self.acquisition_fd, CHUNKS)
        self.sums = SumsWriter(self.acquisition_fd)
        self.rows = SpooledRows(self.contents_fd)
        self.recipes.append(MAGIC)

    def more_rows(self) -> contextlib.closing[SpooledRows]:
        """Opens a further spool of rows, for a recipe that is made while a content is assembled."""
        return contextlib.closing(SpooledRows(self.contents_fd))

    @classmethod
    def create(cls, item: VaultItem, session: str) -> Staging:
        """Makes the staging area of a session. An existing one with the same name is renamed."""
        item.require_lock()
        check_session_id(session)
        with (
            opened_folder(item.layout.root) as root,
            opened_folder(INCOMING, root) as incoming,
            storing("make the staging area"),
        ):
            with contextlib.suppress(FileNotFoundError):
                os.rename(session, os.urandom(16).hex(), src_dir_fd=incoming, dst_dir_fd=incoming)
            os.mkdir(session, FOLDER_MODE, dir_fd=incoming)
            session_fd = os.open(session, FOLDER_FLAGS, dir_fd=incoming)
        try:
            return cls(item, session, session_fd)
        except BaseException:
            os.close(session_fd)
            raise

    def keep_reserve(self) -> None:
        """From now on, evidence and the documents that grow with it are written only while the disk's reserve is free.

        The last lines of documents, signatures and records may use the reserve.
        """
        self._set_room(Room(self.session_fd))

    def _set_room(self, room: Room | None) -> None:
        self.tree.room = room
        for document in (self.manifest, self.recipes, self.sums.sha256sums, self.sums.blake3sums):
            document.room = room

    @property
    def not_in_sums(self) -> NotInSums:
        """The number of files that one of the sums lists cannot express."""
        return self.sums.not_in_sums

    def new_content(self, number: int) -> StagedContent:
        """Makes an empty file for the session's content with that number; it is given to `adopt` in the end.

        The caller closes it.
        """
        name = content_name(number)
        return StagedContent(self.contents_fd, name, self._content_path(name), room=self.tree.room)

    def take_over(self, session: str, files: TreeReader, leftover: bytes, number: int) -> StagedContent | None:
        """Makes a file that an earlier session staged the content with that number, with all its bytes.

        `files` are that session's, and `leftover` is the path among them. None where that is not possible: the file is gone
        or has a second name.
        """
        name = content_name(number)
        self.journal.add_taken(number, session, leftover)  # before the move: the next session finds the file by the journal
        self.journal.sync()
        return take_over(files, leftover, self.contents_fd, name, self._content_path(name), self.tree.room)

    def adopt(self, path: bytes, content: StagedContent, mtime_ns: int | None) -> None:
        """Moves a finished content to its place in `data/`, and closes it."""
        self.journal.add_placed(int(content.name, 16), path)  # before the move, for the same reason
        if content.size >= CHECKPOINT_BYTES // 4:
            # Synced before the rename: else a power cut may keep the rename only.
            self.journal.sync()
        self.tree.adopt(path, content, mtime_ns)

    def count_stored(self, size: int) -> None:
        """Counts bytes that were written. From time to time everything staged is synced, in the background."""
        self._checkpoints.add_stored(size)

    def append_manifest(self, lines: Buffer) -> None:
        """Adds manifest lines, as the exact bytes that are signed in the end."""
        self.manifest.append(lines)
        self.manifest.flush()  # after each page: a later session finds by its lines what was stored, also after a kill

    def read_manifest(self, offset: int, length: int) -> bytes:
        """Reads manifest lines that were appended."""
        with storing(f"read {MANIFEST}"):
            file = os.open(MANIFEST, READ_FLAGS, dir_fd=self.acquisition_fd)
            try:
                return os.pread(file, length, offset)
            finally:
                os.close(file)

    def append_recipe(self, recipe: Recipe) -> None:
        """Adds the recipe of a content that the item did not have before."""
        for block in recipe.encoded():
            self.recipes.append(block)

    def append_single(self, content: Blake3Digest, size: int) -> None:
        """Adds the recipe of a content of one chunk, which the item did not have before."""
        self.recipes.append(encode_single(content, size))

    def add_to_sums(self, lines: Iterable[CheckedLine]) -> None:
        """Adds the files among a manifest's lines to SHA256SUMS and BLAKE3SUMS."""
        self.sums.add(lines)

    def finish(self) -> None:
        """Ends the tree and the streamed documents. Their digests are final afterwards."""
        self._set_room(None)
        self.tree.finish()
        self.manifest.finish()
        self.recipes.finish()
        self.sums.finish(self.manifest)
        self._finished = True

    def sync(self) -> None:
        """Makes everything that was written durable. Raises StorageError when any of it could not be written.

        One syncfs; on platforms without it, an fsync of each file and folder, which takes much longer.
        """
        self.require_finished()
        self._checkpoints.close()
        if not sync_file_system(self.session_fd, "the staging area"):
            _sync_each(os.dup(self.session_fd))

    def read_documents_back(self) -> None:
        """Reads manifest, recipes and sums back from the disk, after `sync`. Raises DigestMismatchError."""
        for document in (self.manifest, self.recipes, self.sums.sha256sums, self.sums.blake3sums):
            verify_on_disk(self.acquisition_fd, document)

    def open_data(self) -> int:
        """Opens a descriptor of `data/`, for `read_back`; the caller closes it."""
        with storing("open the staged data"):
            return os.open(DATA, FOLDER_FLAGS, dir_fd=self.acquisition_fd)

    def require_finished(self) -> None:
        """Raises InternalError before `finish`."""
        if not self._finished:
            raise InternalError("a staging area was to be published before it was finished")

    def close(self) -> None:
        """Closes all descriptors and leaves all files as they are. Safe to call again."""
        with contextlib.ExitStack() as stack:  # all are closed, whichever raises
            for fd in (self.session_fd, self.acquisition_fd, self.contents_fd):
                if fd >= 0:
                    stack.callback(close_quietly, fd)
            self.session_fd = self.acquisition_fd = self.contents_fd = -1
            for document in (self.journal, self.rows, self.sums, self.recipes, self.manifest):
                stack.callback(document.close)
            stack.callback(self.tree.close)
            self._checkpoints.discard()

    def discard(self) -> None:
        """Closes, and removes everything that was staged."""
        self.close()
        with opened_folder(self.item.layout.incoming) as incoming:
            remove_tree(incoming, self.session)

    def _content_path(self, name: str) -> Path:
        return self.item.layout.incoming / self.session / CONTENTS / name

    def _before_checkpoint(self) -> None:
        """Passes buffered lines of documents to the system: a later session finds contents by the manifest's lines."""
        self.manifest.flush()
        self.recipes.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _sync_each(root_fd: int) -> None:
    with FolderStack(root_fd) as stack, storing("sync the staging area"):
        pending = [b""]
        while pending:
            folder = stack.enter(pending.pop())
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(stack.path + b"/" + name if stack.path else name)
                        continue
                    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
                    try:
                        os.fsync(fd)
                    finally:
                        os.close(fd)
            os.fsync(folder)  # after all that is in it
