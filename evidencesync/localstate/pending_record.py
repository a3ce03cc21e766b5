"""Remembers a custody record that was sent to a vault, until the vault has shown it in its chain.

    begun/NAME.json     one for each vault, item and key; NAME is a digest of the three

The file is written before the record is sent, and removed when the vault has shown the record. After an interruption the same
command is run again: if the record is in the chain, it is not added twice.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import msgspec

from evidencesync.errors import ConfigurationError, EvidenceSyncError
from evidencesync.evidence.digest import HexDigest, sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.localstate.files import load_file, opened_folder, replace_file
from evidencesync.outside import refused_place

_FOLDER: Final = "begun"
_MAX_FILE: Final = 16 * 1024
_MAX_RECORDS: Final = 100  # of which the last ones are kept
_NO_FILE_OF_OURS: Final = frozenset({errno.EINVAL, errno.EFBIG, errno.ELOOP, errno.EISDIR})  # see `load_file`
_HINT: Final = "Name another folder in EVIDENCESYNC_STATE, or as `state` in the settings file."


class _PendingRecordFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file: a digest of the statement, and of the records that were made of it, each on another head."""

    statement: HexDigest
    records: Annotated[list[HexDigest], msgspec.Meta(max_length=_MAX_RECORDS)]


_DECODER: Final = msgspec.json.Decoder(_PendingRecordFile)


class PendingRecord:
    """The pending record of one item and one key. `state` is this machine's state folder.

    `statement`: what the command states, as a text that is the same for the same command.
    """

    def __init__(self, state: Path, about: Iterable[str], statement: str) -> None:
        self._folder = state / _FOLDER
        self._name = sha256_of("\n".join(about).encode()).hex() + ".json"
        self._statement = sha256_of(statement.encode()).hex()

    def records(self) -> list[str]:
        """Returns the digests of the records that an interrupted run of this command has made; [] where there was none.

        A file of another form is ignored. Raises StorageError, ConfigurationError.
        """
        try:
            with opened_folder(self._folder) as folder:
                data = load_file(folder, self._name, _MAX_FILE)
            found = _DECODER.decode(data) if data is not None else None
        except (FileNotFoundError, msgspec.DecodeError):
            return []
        except OSError as error:
            if error.errno in _NO_FILE_OF_OURS:
                return []
            raise self._refused(error) from error
        return found.records if found is not None and found.statement == self._statement else []

    def keep(self, records: Iterable[str]) -> None:
        """Writes the digests of all records that were made for this statement, durably. Call it before a record is sent.

        Raises StorageError, NoSpaceError, ConfigurationError.
        """
        data = msgspec.json.encode(_PendingRecordFile(self._statement, list(records)[-_MAX_RECORDS:]))
        try:
            with opened_folder(self._folder.parent) as state, opened_folder(_FOLDER, state, make=True) as folder:
                replace_file(folder, self._name, data)
        except OSError as error:
            raise self._refused(error) from error

    def end(self) -> None:
        """Removes the file. One that cannot be removed does no harm: its record is in the chain."""
        with contextlib.suppress(OSError), opened_folder(self._folder) as folder:
            os.unlink(self._name, dir_fd=folder)

    def _refused(self, error: OSError) -> EvidenceSyncError:
        text = f"which record was begun cannot be remembered in {safe_text(str(self._folder), 300)}"
        return refused_place(error, text, _HINT, ConfigurationError)
