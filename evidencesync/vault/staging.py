"""Staging: where one session builds an acquisition. Nothing in it is evidence before it is published.

`incoming/SESSION/acquisition/` becomes `acquisitions/NNNN` by one rename; `incoming/SESSION/contents/` holds large contents
while they are assembled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from evidencesync.custody.documents import NotInSums
from evidencesync.custody.manifest import CheckedLine
from evidencesync.delta.recipe import MAGIC, Recipe
from evidencesync.errors import InternalError, UsageError
from evidencesync.evidence.digest import Buffer
from evidencesync.evidence.display import safe_text
from evidencesync.vault.content import StagedContent
from evidencesync.vault.disk import FOLDER_FLAGS, FOLDER_MODE, opened_folder, storing, sync_file_system
from evidencesync.vault.documents import StreamedDocument, verify_on_disk
from evidencesync.vault.folders import FolderStack, remove_tree
from evidencesync.vault.item import Item
from evidencesync.vault.layout import CHUNKS, DATA, INCOMING, MANIFEST
from evidencesync.vault.sums import SumsWriter
from evidencesync.vault.tree import TreeWriter

ACQUISITION: Final = "acquisition"
CONTENTS: Final = "contents"
_SESSION: Final = re.compile(r"[0-9a-f]{32}")


def is_session_id(name: str) -> bool:
    """Whether a name can be a session's id, and so that of its folder."""
    return _SESSION.fullmatch(name) is not None


def check_session_id(session: str) -> None:
    """Raises UsageError for what cannot be a session's id."""
    if not is_session_id(session):
        raise UsageError(f"not a session id: {safe_text(session, 80)}")


class Staging:
    """One session's staging area, open for writing. Needs the item's lock for as long as it lives. Not thread-safe.

    Use it as: `tree`, `new_content`, `append_manifest`, `append_recipe`, `add_to_sums` while evidence arrives; `finish`;
    `sync`; read back; `publish`. Every method raises NoSpaceError or StorageError when the disk refuses.
    """

    def __init__(self, item: Item, session: str, session_fd: int) -> None:
        """Takes over the descriptor of the empty session folder. Use `create`."""
        self.item = item
        self.session = session
        self.session_fd = session_fd
        self._contents = 0
        self._finished = False
        with storing("make the staging area"):
            for name in (ACQUISITION, CONTENTS):
                os.mkdir(name, FOLDER_MODE, dir_fd=session_fd)
            self.contents_fd = os.open(CONTENTS, FOLDER_FLAGS, dir_fd=session_fd)
            self.acquisition_fd = os.open(ACQUISITION, FOLDER_FLAGS, dir_fd=session_fd)
            os.fchmod(self.acquisition_fd, FOLDER_MODE)
            os.mkdir(DATA, FOLDER_MODE, dir_fd=self.acquisition_fd)
            self.tree = TreeWriter(os.open(DATA, FOLDER_FLAGS, dir_fd=self.acquisition_fd))
        self.manifest = StreamedDocument(self.acquisition_fd, MANIFEST)
        self.recipes = StreamedDocument(self.acquisition_fd, CHUNKS)
        self.sums = SumsWriter(self.acquisition_fd)
        self.recipes.append(MAGIC)

    @classmethod
    def create(cls, item: Item, session: str) -> Staging:
        """Makes the staging area of a session. What an earlier run of the same session left in it is removed."""
        item.require_lock()
        check_session_id(session)
        with opened_folder(item.layout.root) as root, opened_folder(INCOMING, root) as incoming:
            remove_tree(incoming, session)
            with storing("make the staging area"):
                os.mkdir(session, FOLDER_MODE, dir_fd=incoming)
                session_fd = os.open(session, FOLDER_FLAGS, dir_fd=incoming)
        try:
            return cls(item, session, session_fd)
        except BaseException:
            os.close(session_fd)
            raise

    @property
    def not_in_sums(self) -> NotInSums:
        """How many files one of the sums lists cannot carry."""
        return self.sums.not_in_sums

    def new_content(self) -> StagedContent:
        """A new, empty file for a large content, to be given to `tree.adopt` in the end. The caller closes it."""
        self._contents += 1
        name = f"{self._contents:08x}"
        return StagedContent(self.contents_fd, name, self.item.layout.incoming / self.session / CONTENTS / name)

    def append_manifest(self, lines: Buffer) -> None:
        """Adds manifest lines, as the exact bytes that are signed in the end."""
        self.manifest.append(lines)

    def append_recipe(self, recipe: Recipe) -> None:
        """Adds the recipe of a content that the item did not have before."""
        self.recipes.append(recipe.encode())

    def add_to_sums(self, lines: Iterable[CheckedLine]) -> None:
        """Adds the files among a manifest's lines to SHA256SUMS and BLAKE3SUMS."""
        self.sums.add(lines)

    def finish(self) -> None:
        """Ends the tree and the streamed documents. Their digests are fixed afterwards."""
        self.tree.finish()
        self.manifest.finish()
        self.recipes.finish()
        self.sums.finish(self.manifest)
        self._finished = True

    def sync(self) -> None:
        """Makes all that was written durable. Raises StorageError when any of it could not be written out.

        One syncfs; where the platform has none, an fsync of each file and folder, which takes much longer.
        """
        self.require_finished()
        if not sync_file_system(self.session_fd, "the staging area"):
            _sync_each(os.dup(self.session_fd))

    def read_documents_back(self) -> None:
        """Reads manifest, recipes and sums back from the disk, after `sync`. Raises DigestMismatchError."""
        for document in (self.manifest, self.recipes, self.sums.sha256sums, self.sums.blake3sums):
            verify_on_disk(self.acquisition_fd, document)

    def open_data(self) -> int:
        """A descriptor of `data/`, for `read_back`; the caller closes it."""
        with storing("open the staged data"):
            return os.open(DATA, FOLDER_FLAGS, dir_fd=self.acquisition_fd)

    def require_finished(self) -> None:
        """Raises InternalError before `finish`."""
        if not self._finished:
            raise InternalError("a staging area was to be published before it was finished")

    def close(self) -> None:
        """Closes all descriptors and leaves everything as it is. Safe to call again."""
        self.tree.close()
        for document in (self.manifest, self.recipes, self.sums):
            document.close()
        for fd in (self.session_fd, self.acquisition_fd, self.contents_fd):
            if fd >= 0:
                os.close(fd)
        self.session_fd = self.acquisition_fd = self.contents_fd = -1

    def discard(self) -> None:
        """Closes, and removes all that was staged."""
        self.close()
        with opened_folder(self.item.layout.incoming) as incoming:
            remove_tree(incoming, self.session)

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
            os.fsync(folder)
