"""The destination of an export: written under a temporary name beside it, and renamed when all of it is durable.

So the destination is complete or does not exist. Nothing that exists there is ever replaced.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from evidencesync.errors import NoSpaceError, StorageError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.files.disk import (
    close_quietly,
    remove_if_there,
    storage_error,
    storing,
    sync_file_system,
    sync_folder,
)
from evidencesync.files.drafts import draft_name, make_draft, make_draft_file, remove_left_drafts
from evidencesync.files.folders import remove_tree
from evidencesync.files.placing import place_file, place_folder, take_back
from evidencesync.files.shortages import hint_of
from evidencesync.outside import closed_vault, look_at, open_folder_for, require_outside, require_writable
from evidencesync.vault.writer import kind_of_file_system

_DRAFT: Final = ".evidencesync-export-"
_OTHER: Final = "A vault holds what was acquired. Export to another place."
_HINT: Final = "Nothing was exported. Look at the disks of the vault and of the destination ({})."


class Destination:
    """A free name outside the vault. Holds its parent folder open; close it."""

    def __init__(self, wanted: Path, vault: Path, suffix: str = "") -> None:
        """Raises UsageError unless the parent folder exists, the name is free, and no folder above it is the vault."""
        absolute = os.path.abspath(wanted)  # Path.absolute() leaves `..`, Path.resolve() follows the last link
        self.name = os.path.basename(absolute) + ("" if absolute.endswith(suffix) else suffix)
        parent = os.path.dirname(absolute)
        self.path = os.path.join(parent, self.name)
        self._draft = draft_name(_DRAFT)
        self.removed: list[str] = []
        """The paths of what exports that were killed had left beside it."""
        self._is_published = False
        self._parent = open_folder_for(Path(self.path))
        try:
            require_outside(self._parent, self.shown, closed_vault(vault), _OTHER)
            self._require_free()
            require_writable(self._parent, self.shown, "Export to a folder that you may write in.")
            if kind_of_file_system(self._parent).has_real_locks:
                left = remove_left_drafts(self._parent, _DRAFT, lambda name, _: remove_tree(self._parent, name))
                self.removed = [safe_text(os.fsencode(os.path.join(parent, name)), 300) for name in left]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the parent folder."""
        os.close(self._parent)

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def new_folder(self) -> Iterator[int]:
        """Yields an empty folder, which is removed with its content unless it was published."""
        with _of_the_destination(self.shown):
            with storing(f"write {self.shown}"):
                fd = make_draft(self._parent, self._draft)
            try:
                try:
                    yield fd
                finally:
                    close_quietly(fd)
            finally:
                if not self._is_published:
                    remove_tree(self._parent, self._draft)

    @contextlib.contextmanager
    def new_file(self) -> Iterator[BinaryIO]:
        """Yields an empty file, which is removed unless it was published."""
        with _of_the_destination(self.shown):
            with storing(f"write {self.shown}"):
                fd = make_draft_file(self._parent, self._draft)
            try:
                with os.fdopen(fd, "wb", buffering=1 << 20) as file:
                    yield file
            finally:
                if not self._is_published:
                    remove_if_there(self._parent, self._draft)

    def publish_folder(self, fd: int, when_in_place: Callable[[], None]) -> None:
        """Makes the folder durable, renames it to the destination, and calls `when_in_place`. If that raises, renames it back.

        Raises UsageError if the name was taken meanwhile.
        """
        if not sync_file_system(fd, self.shown):
            os.sync()  # no syncfs here: all file systems, for bytes must be durable before their name
        try:
            place_folder(self._draft, self.name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        except FileExistsError as error:
            raise self._taken() from error
        except OSError as error:
            raise storage_error(error, f"rename to {self.shown}") from error
        back = partial(os.rename, self.name, self._draft, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        self._make_durable(back, when_in_place)

    def publish_file(self, file: BinaryIO, when_in_place: Callable[[], None]) -> None:
        """The same for a file, which is closed: what the system says then is said before the file has its name."""
        with storing(f"write {self.shown}"):
            file.flush()
            os.fsync(file.fileno())  # before it gets its name
            written = os.fstat(file.fileno())
            file.close()
        try:
            place_file(self._draft, self.name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        except FileExistsError as error:
            raise self._taken() from error
        except OSError as error:
            take_back(self.name, written, self._parent)  # it may have its name, and that of the draft
            raise storage_error(error, f"rename to {self.shown}") from error
        self._make_durable(partial(os.unlink, self.name, dir_fd=self._parent), when_in_place)

    def _make_durable(self, undo: Callable[[], None], when_in_place: Callable[[], None]) -> None:
        """Makes the name durable. If that fails, the name is removed: it would not be known whether it survives a crash."""
        try:
            sync_folder(self._parent, self.shown)
            when_in_place()
        except BaseException:
            with contextlib.suppress(OSError):
                undo()
                os.fsync(self._parent)  # that the name is gone is made durable, too
            raise
        self._is_published = True

    @property
    def shown(self) -> str:
        """The destination for people."""
        return safe_text(os.fsencode(self.path), 300)

    def _require_free(self) -> None:
        if not self.name or self.name in (".", ".."):
            raise UsageError(f"{self.shown} is no name for an export")
        if look_at(self._parent, self.name, self.shown) is not None:
            raise self._taken()

    def _taken(self) -> UsageError:
        return UsageError(f"{self.shown} is there already", hint="Nothing is ever written over. Name another destination.")


@contextlib.contextmanager
def _of_the_destination(shown: str) -> Iterator[None]:
    """Replaces hints about the vault's disk by hints that also name the destination."""
    try:
        yield
    except (NoSpaceError, StorageError) as error:
        error.hint = _hint(error.__cause__, shown)
        raise
    except OSError as error:
        raised = storage_error(error, f"write {shown}")
        raised.hint = _hint(error, shown)
        raise raised from error


def _hint(cause: BaseException | None, shown: str) -> str:
    return (hint_of(cause) if isinstance(cause, OSError) else None) or _HINT.format(shown)
