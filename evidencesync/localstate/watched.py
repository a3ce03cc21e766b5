"""Remembers what a watch has pushed last, so that a restarted watch does not push what is in the vault already.

    watched/NAME.json      one file for each source, vault, case and item

It proves nothing: where it is missing, damaged or about something else, the source is pushed again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from evidencesync.custody.documents import AcquisitionNumber, Document, TitleText
from evidencesync.custody.text import check_texts, decode_readable, encode_readable
from evidencesync.errors import ConfigurationError, MalformedDocumentError, NoSpaceError
from evidencesync.evidence.digest import HexDigest, sha256_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.files.shortages import is_full
from evidencesync.limits import MAX_RECORD
from evidencesync.localstate.files import KeptFolder, load_file, opened_folder, replace_file
from evidencesync.outside import Closed

_FOLDER: Final = "watched"
_HINT: Final = "Name another folder in EVIDENCESYNC_STATE, or as `state` in the settings file."


class WatchedSource(Document, frozen=True):
    """One file. `state` is the BLAKE3 of what the source looked like before the acquisition began.

    `source` and `vault` are for people; the file's name says which they are.
    """

    format: Literal["evidencesync-watched/1"]
    source: str
    vault: str
    case: TitleText
    item: TitleText
    state: HexDigest
    acquisition: AcquisitionNumber
    manifest_sha256: HexDigest
    pushed: UtcTime


_DECODER: Final = msgspec.json.Decoder(WatchedSource)


@dataclass(frozen=True, slots=True)
class WatchedKey:
    """Identifies a watch: the source's absolute path, the vault's address as given (a local one absolute), case and item."""

    source: bytes
    vault: str
    name: ItemName

    @property
    def file_name(self) -> str:
        """The file's name: a digest, so that no path or title can choose it."""
        texts = (self.vault, self.name.case.text, self.name.item.text)
        parts = (self.source, *(text.encode("utf-8", "surrogateescape") for text in texts))
        return f"{sha256_of(b''.join(b'%d:%b' % (len(part), part) for part in parts)).hex()[:32]}.json"


class WatchMemory:
    """The memory in one state folder."""

    def __init__(self, state: Path, key: WatchedKey) -> None:
        self._folder = state / _FOLDER
        self._key = key
        self._held: KeptFolder | None = None

    def require_usable(self, closed: Sequence[Closed] = ()) -> None:
        """Makes and tests the folder; it stays open until `close`. Raises ConfigurationError, UsageError."""
        try:
            self._held = KeptFolder(self._folder, closed, _HINT)
        except OSError as error:
            refused = NoSpaceError if is_full(error) else ConfigurationError
            raise refused(
                f"what was pushed cannot be remembered in {safe_text(str(self._folder), 300)}: {error.strerror}",
                hint=_HINT,
            ) from error

    def close(self) -> None:
        """Closes the folder that `require_usable` has opened."""
        if self._held is not None:
            self._held.close()
            self._held = None

    @contextlib.contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        if self._held is not None:
            yield self._held.fd
        else:
            with opened_folder(self._folder, make=make) as folder:
                yield folder

    def recall(self) -> WatchedSource | None:
        """Returns what was pushed last; None where nothing is known, or the file is damaged."""
        try:
            with self._opened() as folder:
                data = load_file(folder, self._key.file_name, MAX_RECORD)
            if data is None:
                return None
            found = decode_readable(_DECODER, data, MAX_RECORD, "what was pushed last")
            check_texts(found, "what was pushed last")
        except (OSError, MalformedDocumentError):
            return None
        is_it = (found.case, found.item) == (self._key.name.case.text, self._key.name.item.text)
        return found if is_it else None

    def remember(self, state: bytes, acquisition: int, manifest_sha256: str, now: UtcTime) -> None:
        """Remembers what was pushed, durably. Raises OSError: then a restarted watch will push once more."""
        key = self._key
        found = WatchedSource(
            "evidencesync-watched/1",
            safe_text(key.source),
            safe_text(key.vault),
            key.name.case.text,
            key.name.item.text,
            state.hex(),
            acquisition,
            manifest_sha256,
            now,
        )
        with self._opened(make=True) as folder:
            replace_file(folder, key.file_name, encode_readable(found))
