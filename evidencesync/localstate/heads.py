"""Remembers the heads of vaults' chains that this machine has seen, in one file a chain.

    heads/VAULT_ID/vault.json         the vault's own chain
    heads/VAULT_ID/CASE+ITEM.json     an item's; CASE and ITEM are its folders' names

A file is replaced in one step, under the lock of its folder, and only by a longer chain. Several processes may write at once.
A file that cannot be read is an error and never an empty memory: otherwise damaging it would hide a rollback.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.consistency import HINT, KnownChain, whose_chain
from evidencesync.custody.documents import Document, Fingerprint, TitleText, VaultId
from evidencesync.custody.text import check_texts, check_utc_time, decode_readable, encode_readable
from evidencesync.errors import (
    EvidenceSyncError,
    ForkedError,
    InvalidNameError,
    MalformedDocumentError,
    NameClashError,
    NoRoomToRememberError,
    NoSpaceError,
    NotThereError,
    RememberedHeadsError,
    StorageError,
    UsageError,
)
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import Title
from evidencesync.evidence.meant import did_you_mean, nearest
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.files.litter import without_litter
from evidencesync.files.shortages import hint_of, is_full, is_shortage, unexpected
from evidencesync.home import expand
from evidencesync.limits import MAX_SEEN_DIGESTS
from evidencesync.localstate.files import DRAFT, KeptFolder, load_file, opened_folder, own_folder, replace_file
from evidencesync.outside import Closed, open_folder_outside

_FOLDER: Final = "heads"
_OWN: Final = "vault.json"
_SUFFIX: Final = ".json"
_MAX_FILE: Final = 64 * 1024
_OTHER_FOLDER: Final = "Name another folder in EVIDENCESYNC_STATE, or as `state` in the settings file."
_SEE: Final = "See what is remembered: evidencesync receipts list"
_HINT: Final = (
    "Without it a rolled-back vault cannot be told from a sound one. Compare the vault's head with the last one that you wrote "
    "down (verify --expect-head), then: evidencesync receipts forget-head {vault_id}"
)
_NO_FILE_OF_OURS: Final = frozenset({errno.EINVAL, errno.EFBIG, errno.ELOOP, errno.EISDIR})  # see `load_file`
_UNREADABLE: Final = (
    "Without it a rolled-back vault cannot be told from a sound one. It has to be readable again: look at the disk, the "
    "permissions, and EVIDENCESYNC_STATE or `state` in the settings file."
)


class SeenHead(Document, frozen=True):
    """One file: a chain as it was seen last. `digests`: of its last records, up to `sequence`. Without case: the vault's own."""

    format: Literal["evidencesync-head/1"]
    vault_id: VaultId
    vault_key: Fingerprint
    case: TitleText | None
    item: TitleText | None
    sequence: Annotated[int, msgspec.Meta(ge=1, le=999_999)]
    digests: Annotated[list[HexDigest], msgspec.Meta(min_length=1, max_length=MAX_SEEN_DIGESTS)]
    seen: UtcTime


class RememberedHead(msgspec.Struct, frozen=True):
    """A chain as this machine has seen it last, and the fingerprint of its vault's key.

    `led_over`: the keys that are known to be the vault's, one signed by the other; of what comes out of the memory: none.
    """

    subject: ChainSubject
    vault_key: str
    chain: KnownChain
    seen: UtcTime
    led_over: tuple[str, ...] = ()

    def may_come_after(self, key: str) -> bool:
        """Whether a vault that was seen with another key may be this one."""
        return key == self.vault_key or key in self.led_over


_DECODER: Final = msgspec.json.Decoder(SeenHead)


def state_folder(chosen: Path | None) -> Path:
    """Returns this machine's state folder: the chosen one, or the user's default (XDG_STATE_HOME)."""
    return expand(chosen) if chosen is not None else own_folder("XDG_STATE_HOME", ".local", "state")


class HeadMemory:
    """The remembered heads in one state folder, which is made when something is remembered."""

    def __init__(self, state: Path) -> None:
        self._folder = state / _FOLDER
        self._held: KeptFolder | None = None

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return self._folder

    def require_usable(self, closed: Sequence[Closed] = ()) -> None:
        """Makes and tests the folder, before a push: afterwards it is too late to learn that it is full. `close` closes it.

        Raises RememberedHeadsError, UsageError where it lies in what is `closed`, or in a vault.
        """
        try:
            self._held = KeptFolder(self._folder, closed, _OTHER_FOLDER)
        except OSError as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Closes the folder that `require_usable` has opened."""
        if self._held is not None:
            self._held.close()
            self._held = None

    @contextlib.contextmanager
    def _opened(self, *, make: bool = False) -> Iterator[int]:
        """Opens the folder; uses the tested one, if there is one. Raises OSError, RememberedHeadsError for a forbidden place."""
        if self._held is not None:
            yield self._held.fd
        elif not make:
            with opened_folder(self._folder) as heads:
                yield heads
        else:
            try:
                heads = open_folder_outside(self._folder, safe_text(str(self._folder), 200), (), _OTHER_FOLDER, follow=False)
            except (UsageError, StorageError) as error:
                raise RememberedHeadsError(error.message, hint=error.hint) from error
            except NoSpaceError as error:
                raise NoRoomToRememberError(error.message, hint=error.hint) from error
            try:
                yield heads
            finally:
                os.close(heads)

    def recall(self, subject: ChainSubject) -> RememberedHead | None:
        """Returns what was seen of a chain; None for nothing. Raises RememberedHeadsError for an unreadable or damaged file.

        Raises NameClashError where the file is about another case or item whose number makes the same folder name.
        """
        try:
            with self._opened() as heads, opened_folder(_vault_folder(subject.vault_id), heads) as vault:
                return self._load(vault, _file_name(subject), subject)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreadable(subject.vault_id, error) from error

    def recall_vault(self, vault_id: str) -> list[RememberedHead]:
        """Returns everything that was seen of a vault. Raises RememberedHeadsError."""
        try:
            with self._opened() as heads, opened_folder(_vault_folder(vault_id), heads) as vault:
                names = sorted(name for name in without_litter(vault) if not name.startswith(DRAFT))
                loaded = [self._load(vault, name, None, vault_id) for name in names]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreadable(vault_id, error) from error
        return [one for one in loaded if one is not None]

    def vaults(self) -> list[str]:
        """Returns the ids of all vaults of which something is remembered."""
        try:
            return sorted(without_litter(self._folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error

    def remember(self, seen: Iterable[RememberedHead]) -> None:
        """Remembers chains, durably, where they are longer than the remembered ones.

        Raises ForkedError when another process has meanwhile remembered another history, RememberedHeadsError when nothing can be
        written.
        """
        try:
            with self._opened(make=True) as heads:
                for one in seen:
                    self._remember(heads, one)
        except OSError as error:
            raise self._unusable(error) from error

    def forget(self, vault_id: str, case: str | None = None, item: str | None = None) -> int:
        """Forgets all chains of a vault, or one item's; returns how many. Raises NotThereError, RememberedHeadsError."""
        subject = ChainSubject(vault_id, case, item) if case is not None else None
        forgotten = 0
        try:
            with self._opened() as heads, opened_folder(_vault_folder(vault_id), heads) as vault, _locked(vault):
                for name in set(without_litter(vault)) if subject is None else self._named(vault, subject):
                    os.unlink(name, dir_fd=vault)
                    forgotten += not name.startswith(DRAFT)
                os.fsync(vault)  # what was forgotten must not come back and accuse
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._unusable(error) from error
        if not forgotten:
            raise NotThereError("nothing is remembered of that", hint=f"{did_you_mean(nearest(vault_id, self.vaults()))}{_SEE}")
        return forgotten

    def _named(self, vault_fd: int, subject: ChainSubject) -> list[str]:
        """Returns the file of a chain to forget, also a damaged one; [] where it is about another item of that file name."""
        name = _file_name(subject)
        try:
            self._load(vault_fd, name, subject)
        except NameClashError:
            return []
        except RememberedHeadsError:
            pass  # a damaged file stands in the way of this chain, so it is removed
        return [name]

    def _remember(self, heads_fd: int, new: RememberedHead) -> None:
        subject, name = new.subject, _file_name(new.subject)
        with opened_folder(_vault_folder(subject.vault_id), heads_fd, make=True) as vault, _locked(vault):
            old = self._load(vault, name, subject)
            if old is not None:
                is_later = (new.chain.sequence, new.may_come_after(old.vault_key)) >= (old.chain.sequence, True)
                later, earlier = (new, old) if is_later else (old, new)
                known = later.chain.digest_of(earlier.chain.sequence)
                is_same = later.may_come_after(earlier.vault_key) or (later is old and known == earlier.chain.sha256)
                if not is_same or known not in (earlier.chain.sha256, None):
                    text = f"another process has just seen another history of {whose_chain(subject)}"
                    raise ForkedError(text, hint=HINT.format(vault_id=subject.vault_id))
                if later is old or (new.chain == old.chain and new.vault_key == old.vault_key):
                    return
            replace_file(vault, name, _encode(new))

    def _load(self, vault_fd: int, name: str, subject: ChainSubject | None, vault_id: str = "") -> RememberedHead | None:
        vault_id = subject.vault_id if subject is not None else vault_id
        data = load_file(vault_fd, name, _MAX_FILE)
        if data is None:
            return None
        try:
            found = decode_readable(_DECODER, data, _MAX_FILE, "a remembered head")
            check_texts(found, "a remembered head")
            check_utc_time(found.seen, "a remembered head")
            about = ChainSubject(found.vault_id, found.case, found.item)
            is_it = _file_name(about) == name and about.vault_id == vault_id
        except (MalformedDocumentError, InvalidNameError) as error:
            raise self._damaged(vault_id, error.message) from error
        if not is_it or len(found.digests) > found.sequence:
            raise self._damaged(vault_id, "it is about something else")
        if subject not in (None, about):
            raise NameClashError(
                f"this machine has seen the folder of {whose_chain(subject)} as that of another: {whose_chain(about)}",
                hint="The two numbers make the same folder name. Use another number.",
            )
        return RememberedHead(about, found.vault_key, KnownChain(found.sequence, tuple(found.digests)), found.seen)

    def _damaged(self, vault_id: str, why: str) -> RememberedHeadsError:
        return RememberedHeadsError(
            f"what this machine remembers of the vault {safe_text(vault_id, 40)} is damaged: {safe_text(why, 200)} "
            f"({safe_text(str(self._folder / vault_id), 300)})",
            hint=_HINT.format(vault_id=vault_id),
        )

    def _unreadable(self, vault_id: str, error: OSError) -> EvidenceSyncError:
        """Returns the error for a file that cannot be read: that is no damage, and no reason to advise `forget-head`."""
        if is_shortage(error):
            return unexpected(error)
        if error.errno in _NO_FILE_OF_OURS:
            return self._damaged(vault_id, error.strerror or "it is no file")
        return RememberedHeadsError(
            f"what this machine remembers of the vault {safe_text(vault_id, 40)} cannot be read: {error.strerror} "
            f"({safe_text(str(self._folder / vault_id), 300)})",
            hint=_UNREADABLE,
        )

    def _unusable(self, error: OSError) -> EvidenceSyncError:
        if is_shortage(error):
            return unexpected(error)
        kind = NoRoomToRememberError if is_full(error) else RememberedHeadsError
        return kind(
            f"heads cannot be remembered in {safe_text(str(self._folder), 300)}: {error.strerror}",
            hint=hint_of(error) or _OTHER_FOLDER,
        )


class NoMemory(HeadMemory):
    """The memory of a process without a state folder: it knows nothing, and refuses to remember."""

    def __init__(self, why: str) -> None:
        super().__init__(Path(os.devnull))
        self._why = why

    def require_usable(self, closed: Sequence[Closed] = ()) -> None:
        """Does nothing: there is no folder to test."""

    def recall(self, subject: ChainSubject) -> RememberedHead | None:
        """Nothing."""
        return None

    def recall_vault(self, vault_id: str) -> list[RememberedHead]:
        """Nothing."""
        return []

    def remember(self, seen: Iterable[RememberedHead]) -> None:
        """Raises RememberedHeadsError."""
        raise RememberedHeadsError(f"what was seen is not remembered: {self._why}", hint=_OTHER_FOLDER)


class RecalledHeads(HeadMemory):
    """What another memory knew of one vault at one moment, before the vault was asked.

    Another process may remember more meanwhile, and the vault's answer is older than that.
    """

    def __init__(self, memory: HeadMemory) -> None:
        super().__init__(memory.folder)
        self._memory = memory
        self._recalled: list[RememberedHead] = []
        self._error: RememberedHeadsError | None = None

    def recall_before(self, vault_id: str) -> None:
        """Takes over what is remembered of a vault now. An error is raised where it is asked for."""
        try:
            self._recalled, self._error = self._memory.recall_vault(vault_id), None
        except RememberedHeadsError as error:
            self._recalled, self._error = [], error

    def recall(self, subject: ChainSubject) -> RememberedHead | None:
        """Returns what was known of a chain. Raises RememberedHeadsError where that could not be read."""
        return next((one for one in self.recall_vault(subject.vault_id) if one.subject == subject), None)

    def recall_vault(self, vault_id: str) -> list[RememberedHead]:
        """Returns everything that was known of the vault. Raises RememberedHeadsError where that could not be read."""
        if self._error is not None:
            raise self._error
        return [one for one in self._recalled if one.subject.vault_id == vault_id]

    def remember(self, seen: Iterable[RememberedHead]) -> None:
        """Remembers chains in the memory itself."""
        self._memory.remember(seen)


class ShownHeads(RecalledHeads):
    """What a vault has just shown, in the place of what another memory knew of it; remembered is in that memory."""

    def __init__(self, memory: HeadMemory, shown: Iterable[RememberedHead]) -> None:
        super().__init__(memory)
        self._recalled = [*shown]


@contextlib.contextmanager
def _locked(folder_fd: int) -> Iterator[None]:
    """Locks a folder, so that read, compare and replace are one step. The kernel releases the lock when the process ends, too."""
    fcntl.flock(folder_fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(folder_fd, fcntl.LOCK_UN)


def _vault_folder(vault_id: str) -> str:
    """Returns a vault's folder name. The id comes from a vault, so its form is checked: it must not be a path."""
    if len(vault_id) != 32 or not set(vault_id) <= set("0123456789abcdef"):
        raise NotThereError(f"not the id of a vault: {safe_text(vault_id, 40)}", hint=f"It has 32 hexadecimal digits. {_SEE}")
    return vault_id


def _file_name(subject: ChainSubject) -> str:
    if subject.case is None or subject.item is None:
        return _OWN
    return f"{Title(subject.case).folder}+{Title(subject.item).folder}{_SUFFIX}"


def _encode(one: RememberedHead) -> bytes:
    chain, subject = one.chain, one.subject
    return encode_readable(
        SeenHead(
            "evidencesync-head/1",
            subject.vault_id,
            one.vault_key,
            subject.case,
            subject.item,
            chain.sequence,
            list(chain.digests[-MAX_SEEN_DIGESTS:]),
            one.seen,
        )
    )
