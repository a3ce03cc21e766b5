"""Keeps the signed documents that a push gets back: whoever holds them can show a vault whose history was cut short."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evidencesync.errors import ConfigurationError, StorageError
from evidencesync.evidence.display import safe_text

if TYPE_CHECKING:
    from evidencesync.transfer.request import Documents, PushOutcome

_MAX_SAME_NAME: Final = 1000


def receipts_folder(chosen: Path | None) -> Path:
    """The folder for receipts, made where it is missing, and tried: before a push is the time to learn that it is full.

    The default follows the XDG Base Directory Specification. Raises ConfigurationError.
    """
    folder = chosen.expanduser() if chosen is not None else _default_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = folder / f".try-{secrets.token_hex(8)}"
        probe.mkdir(mode=0o700)
        probe.rmdir()
    except OSError as error:
        raise ConfigurationError(
            f"receipts cannot be kept in {safe_text(str(folder), 200)}: {error.strerror}",
            hint="Name another folder: --receipts DIR",
        ) from error
    return folder


def store_receipts(folder: Path, outcome: PushOutcome) -> Path:
    """Writes the documents of an acquisition to `CASE-ITEM-NNNN` in `folder`, durably; gives that folder.

    It appears whole or not at all, and never takes the place of another: where the name is taken (by another vault's
    acquisition), a number is added. Raises StorageError.
    """
    name = f"{outcome.name.case.folder}-{outcome.name.item.folder}-{outcome.acquisition:04}"
    draft = folder / f".new-{secrets.token_hex(8)}"
    try:
        draft.mkdir(mode=0o700)
        try:
            for file, data in documents_by_name(outcome.documents).items():
                _write(draft / file, data)
            _sync(draft)
            final = _take_place(draft, folder, name)
        except OSError:
            with contextlib.suppress(OSError):
                shutil.rmtree(draft)
            raise
        _sync(folder)
    except OSError as error:
        raise StorageError(
            f"acquisition {outcome.acquisition} of {outcome.name} was published, but its receipt could not be kept in "
            f"{safe_text(str(folder), 200)}: {error.strerror}",
            hint="Copy receipt.json, received.json, acquired.json and their signatures from the vault.",
        ) from error
    return final


def documents_by_name(documents: Documents) -> dict[str, bytes]:
    """The documents under the names that they have in a vault."""
    return {
        "manifest.jsonl.sig": documents.manifest_signature,
        "acquired.json": documents.acquired,
        "acquired.json.sig": documents.acquired_signature,
        "receipt.json": documents.receipt,
        "receipt.json.sig": documents.receipt_signature,
        "received.json": documents.received,
        "received.json.sig": documents.received_signature,
    }


def _default_folder() -> Path:
    base = os.environ.get("XDG_DATA_HOME", "")
    root = Path(base) if base.startswith("/") else Path("~", ".local", "share").expanduser()
    return root / "evidencesync" / "receipts"


def _take_place(draft: Path, folder: Path, name: str) -> Path:
    """Renames to the first free name. A folder with something in it is never replaced by a rename."""
    for number in range(1, _MAX_SAME_NAME):
        final = folder / (name if number == 1 else f"{name}-{number}")
        if not final.exists():
            draft.rename(final)
            return final
    raise FileExistsError(17, "the name is taken", name)


def _write(file: Path, data: bytes) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444), "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
