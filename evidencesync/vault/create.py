"""Makes a vault, and finds out what its file system supports."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from evidencesync import __version__
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.record import SIGNATURE_FORM
from evidencesync.custody.roles import EVERYTHING, USUAL
from evidencesync.custody.rule_of_two import NeedsTwo
from evidencesync.custody.sshsig import SigningKey
from evidencesync.custody.trust_requests import ChangeOfTrust, changed
from evidencesync.custody.trust_requests import two_person as demand_two
from evidencesync.custody.vault_keys import AGENT, HELD_BY
from evidencesync.errors import (
    EvidenceSyncError,
    InvalidNameError,
    NoSpaceError,
    StorageError,
    UsageError,
)
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.identity import Title
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.files.copying import share_blocks
from evidencesync.files.disk import (
    CREATE_FLAGS,
    FOLDER_FLAGS,
    locked_folder,
    make_folder,
    opened_folder,
    remove_if_there,
    storage_error,
    store_new_file,
    storing,
    sync_file_system,
    sync_folder,
    write_all,
)
from evidencesync.files.folders import names_in, remove_tree
from evidencesync.home import account_name
from evidencesync.limits import MAX_TITLE
from evidencesync.outside import require_outside
from evidencesync.vault.interrupted import TEMPORARY
from evidencesync.vault.key_files import make_vault_key, public_key_file
from evidencesync.vault.layout import (
    CASES,
    CUSTODY,
    INDEX,
    REVOKED_KEYS,
    ROLES,
    SETTINGS,
    SIGNATURE_SUFFIX,
    TRUSTED_SIGNERS,
    VAULT_KEY,
    VAULT_KEY_PUBLIC,
    VaultLayout,
    parse_record_file,
)
from evidencesync.vault.ledger import Ledger, sign_record
from evidencesync.vault.settings import (
    VAULT_FORMAT,
    FileSystem,
    Policy,
    VaultSettings,
    Writer,
    encode_settings,
)
from evidencesync.vault.tree import kept_names
from evidencesync.vault.trust import vault_record
from evidencesync.vault.trust_lists import first_trust_files
from evidencesync.vault.vault import Vault
from evidencesync.vault.writer import kind_of_file_system, this_machine

_PROBE: Final = re.compile(r"\.probe-[0-9a-f]{16}")
_ODD_TIME: Final = 1_500_000_001_123_456_789  # odd seconds, and every digit after them is different
_GRANULARITIES: Final = (1, 100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000)
_NAME_LENGTHS: Final = (255, 254, 143, 127, 64)  # Linux; some FUSE file systems; eCryptfs; the least that is usable


def is_probe(name: str) -> bool:
    """Whether a folder's name is that of a probe folder of this module."""
    return _PROBE.fullmatch(name) is not None


def probe_file_system(dir_fd: int) -> FileSystem:
    """Finds out what the file system of a folder supports. Leaves the folder as it was.

    Raises StorageError when not even files can be made and synced there, NameClashError when they get other names.
    """
    name = f".probe-{secrets.token_hex(8)}"
    with storing("make a folder to try the file system"):
        os.mkdir(name, 0o700, dir_fd=dir_fd)
    try:
        with opened_folder(name, dir_fd) as probe, storing("try the file system"):
            return _probe(probe)
    finally:
        remove_tree(dir_fd, name)


def _probe(probe: int) -> FileSystem:
    kept_names(probe)
    _make(probe, b"first", b"probe")
    return FileSystem(
        case_sensitive=not _exists(probe, b"FIRST"),
        any_bytes_in_names=_can_make(probe, b"\xff\xfe"),
        name_bytes=next((length for length in _NAME_LENGTHS if _can_make(probe, b"n" * length)), 8),
        time_granularity_ns=_granularity(probe),
        hard_links=_can_link(probe),
        reflinks=_can_reflink(probe),
        sync="syncfs" if sync_file_system(probe, "the file system") else "fsync",
    )


def _make(probe: int, name: bytes, data: bytes) -> None:
    fd = os.open(name, CREATE_FLAGS, 0o600, dir_fd=probe)
    try:
        write_all(fd, data)
        os.fsync(fd)  # some file systems refuse a write only now
    finally:
        os.close(fd)


def _exists(probe: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=probe, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _can_make(probe: int, name: bytes) -> bool:
    try:
        os.close(os.open(name, CREATE_FLAGS, 0o600, dir_fd=probe))
    except OSError:
        return False
    return name in [os.fsencode(found) for found in os.listdir(probe)]  # with the same bytes: some file systems normalise names


def _granularity(probe: int) -> int:
    os.utime(b"first", ns=(_ODD_TIME, _ODD_TIME), dir_fd=probe)
    kept = os.stat(b"first", dir_fd=probe).st_mtime_ns
    return next((step for step in _GRANULARITIES if kept == _ODD_TIME // step * step), _GRANULARITIES[-1])


def _can_link(probe: int) -> bool:
    try:
        os.link(b"first", b"second", src_dir_fd=probe, dst_dir_fd=probe, follow_symlinks=False)
    except OSError:
        return False
    return True


def _can_reflink(probe: int) -> bool:
    source = os.open(b"first", os.O_RDONLY | os.O_CLOEXEC, dir_fd=probe)
    try:
        target = os.open(b"reflink", CREATE_FLAGS, 0o600, dir_fd=probe)
        try:
            return share_blocks(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


_MODE: Final = 0o644
_PRIVATE_FOLDER: Final = 0o700
_NOTHING_MADE: Final = (
    "Look at the disk (df -h, df -i) and the permissions there, then run the same command again. Nothing was made."
)
_BEGUN: Final = (
    "Look at the disk (df -h, df -i) and the permissions there. No vault was made; remove what was begun in {}, "
    "then run the same command again."
)
_NOT_ENDED: Final = (
    "An init that did not end has left it. See that none is running there; then remove what is in {}, "
    "and run the same command again."
)
_IS_THERE: Final = "There is a vault already: see evidencesync list VAULT. A new one needs a folder of its own."
_SETTINGS_DRAFT: Final = TEMPORARY + SETTINGS
_PRIVATE_FILE: Final = 0o600
_FILES: Final = (SETTINGS, _SETTINGS_DRAFT, TRUSTED_SIGNERS, REVOKED_KEYS, ROLES, VAULT_KEY, VAULT_KEY_PUBLIC)
_FOLDERS: Final = (CASES, CUSTODY, INDEX)


def create_vault(
    path: Path,
    name: str,
    trusted: Sequence[tuple[PublicKey, str]] = (),
    *,
    policy: Policy | None = None,
    two_person: tuple[NeedsTwo, ...] = (),
    in_agent: SigningKey | None = None,
    at_ns: int | None = None,
) -> Vault:
    """Makes a vault in a folder that is empty or missing, with a key of its own, and opens it.

    Its key is made now, or is `in_agent` one that an ssh-agent holds.
    `trusted` are the examiners' keys and principals. Where something needs two people (`two_person`), they may administer, too.
    vault.toml is put in place last, and whole: without it, a folder is no vault. After a failure nothing is left: the next
    attempt begins in an empty folder. Where leftovers cannot be removed, the error names them. Raises UsageError for a folder
    that is not empty, InvalidNameError, NameClashError and SigningKeyError for a file system that is no place for a vault,
    TrustFileError, StorageError, NoSpaceError.
    """
    now = time.time_ns() if at_ns is None else at_ns
    _require_usable(name)
    with _hinting_whose_folder_it_is(path):
        furnish = partial(_furnish, name=name, trusted=trusted, policy=policy or Policy(), rule=two_person)
        return _create(path, partial(furnish, in_agent=in_agent, now=now))


@contextlib.contextmanager
def _hinting_whose_folder_it_is(path: Path) -> Iterator[None]:
    """Says how an account gets a folder for a vault where it may not make one."""
    place = path / "vault" if os.path.isdir(path) else path
    try:
        yield
    except EvidenceSyncError as error:
        if isinstance(error.__cause__, PermissionError) and (account := account_name()) is not None:
            made = shell_text("sudo", "install", "-d", "-m", "700", "-o", account, str(place))
            error.hint = (
                f"{safe_text(account)} may not write there: name a folder of your own, or have one made: {made}; "
                f"then: {shell_text('evidencesync', 'init', str(place))}"
            )
        raise


def _create(path: Path, furnish: Callable[[VaultLayout], None]) -> Vault:
    is_new = _make_root(path)
    layout = VaultLayout(path.resolve())
    try:
        with locked_folder(layout.root, "the folder of the new vault"):
            _clear_begun(layout.root)
            return _make_whole(layout, partial(furnish, layout), is_new=is_new)
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):
                layout.root.rmdir()  # where not even the lock could be had; a folder with anything in it stays
        raise


def _make_whole(layout: VaultLayout, furnish: Callable[[], None], *, is_new: bool) -> Vault:
    try:
        with storing(lambda: f"make a vault in {safe_text(str(layout.root), 200)}"):
            furnish()
        return Vault.open(layout.root)
    except BaseException as error:
        # A name is taken: another process makes a vault there, and that one stays.
        is_gone = isinstance(error.__cause__, FileExistsError) or _take_back(layout.root, is_new=is_new)
        if isinstance(error, NoSpaceError | StorageError):
            error.hint = _NOTHING_MADE if is_gone else _BEGUN.format(safe_text(str(layout.root), 200))
        raise


def _require_usable(name: str) -> None:
    try:
        Title(name)  # the same rules as for a case number
    except InvalidNameError as error:
        raise InvalidNameError(
            f"not usable as the name of a vault: {safe_text(name, 80)}",
            hint=f"Name it with --name: up to {MAX_TITLE} characters, none of them a control character.",
        ) from error


def _furnish(
    layout: VaultLayout,
    name: str,
    trusted: Sequence[tuple[PublicKey, str]],
    policy: Policy,
    rule: tuple[NeedsTwo, ...],
    in_agent: SigningKey | None,
    now: int,
) -> None:
    with opened_folder(layout.root) as root:
        store_new_file(root, _SETTINGS_DRAFT, b"", mode=_PRIVATE_FILE)  # first: what lies beside it was begun, and never a vault
        file_system = probe_file_system(root)
        signer = in_agent or make_vault_key(root, f"vault {name}")
        if in_agent is not None:
            store_new_file(root, VAULT_KEY_PUBLIC, public_key_file(in_agent.public_key, f"vault {name}"), mode=_MODE)
        settings = VaultSettings(
            format=VAULT_FORMAT,
            id=secrets.token_hex(16),
            name=name,
            key=signer.public_key.fingerprint,
            created=format_utc_time(now),
            policy=policy,
            file_system=file_system,
            writer=_first_writer(root, now),
            two_person=rule or None,
        )
        files = first_trust_files(settings.id, signer.public_key, list(trusted))
        for folder in (CASES, CUSTODY):
            make_folder(folder, root)
        make_folder(INDEX, root, mode=_PRIVATE_FOLDER)
        first = {"tool": "evidencesync", "version": __version__, **SIGNATURE_FORM} | files.digests() | USUAL.details()
        first |= {} if in_agent is None else {HELD_BY: AGENT}
        ledger = Ledger(layout.custody)
        ledger.append(*sign_record(vault_record(settings, ledger, "made", first, now), signer))
        for change in _demanding_two(rule, [key for key, _ in trusted]):
            files = Vault(layout, settings).trust.edited(files, change, now)
            stated = {"action": change.action, **change.details} | files.digests()
            ledger.append(*sign_record(vault_record(settings, ledger, "trust-changed", stated, now), signer))
        for file, data in files.by_name().items():
            store_new_file(root, file, data, mode=_MODE)
        _fill(root, _SETTINGS_DRAFT, encode_settings(settings))
        # No other vault.toml is here: of two processes in one folder, the later one has met the other's files by now.
        os.rename(_SETTINGS_DRAFT, SETTINGS, src_dir_fd=root, dst_dir_fd=root)
        sync_folder(root, "the vault's folder")


def _demanding_two(rule: tuple[NeedsTwo, ...], keys: Sequence[PublicKey]) -> list[ChangeOfTrust]:
    """What is changed after the making, where something needs two people: all may administer, and then it needs two."""
    return [*(changed(key.fingerprint, EVERYTHING) for key in keys), demand_two(rule)] if rule else []


def _fill(root_fd: int, name: str, data: bytes) -> None:
    with storing(f"write {name}"):
        fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root_fd)
        try:
            write_all(fd, data)
            os.fchmod(fd, _MODE)
            os.fsync(fd)  # before it becomes vault.toml
        finally:
            os.close(fd)


def _take_back(root: Path, *, is_new: bool) -> bool:
    """Removes what a vault is made of, the settings first: without them it is no vault. Returns whether all of it is gone.

    A failed removal does not stop the others.
    """
    steps: list[Callable[[], None]] = []
    with contextlib.suppress(OSError, EvidenceSyncError), opened_folder(root) as folder:
        steps += [partial(remove_if_there, folder, name) for name in _FILES]
        steps += [partial(remove_tree, folder, name) for name in (*_FOLDERS, *filter(is_probe, names_in(folder)))]
        for step in steps:
            with contextlib.suppress(OSError, EvidenceSyncError):
                step()
    try:
        if is_new:
            root.rmdir()
        return is_new or not os.listdir(root)
    except OSError:
        return False


def _clear_begun(root: Path) -> None:
    """Removes what an init that was killed has left. Call under the lock: no other init runs there.

    Raises UsageError for a folder that holds anything else, and where locks do not hold between machines: one of them may be
    making it.
    """
    with storing(f"look into {safe_text(str(root), 200)}"):
        _require_free(root)
        if not os.listdir(root):
            return
        with opened_folder(root) as folder:
            may_be_at_work = not kind_of_file_system(folder).has_real_locks
    if may_be_at_work or not _take_back(root, is_new=False):
        shown = safe_text(str(root), 200)
        raise UsageError(f"the folder is not empty: {shown}", hint=_NOT_ENDED.format(shown))


def _require_free(path: Path) -> None:
    """Raises UsageError for a folder with anything in it but what a killed `init` evidently leaves. Raises OSError."""
    names = os.listdir(path)
    looks_begun = _looks_begun(path, names)
    if looks_begun and (_SETTINGS_DRAFT in names or all(map(is_probe, names))):
        return
    shown = safe_text(str(path), 200)
    hint = _IS_THERE if SETTINGS in names else _NOT_ENDED.format(shown) if looks_begun else "A vault needs a folder of its own."
    raise UsageError(f"the folder is not empty: {shown}", hint=hint)


def _looks_begun(path: Path, names: Sequence[str]) -> bool:
    """Whether a folder has what a killed `init` leaves, and nothing else.

    A vault without any acquisition that has lost its vault.toml looks the same, and so may a key that was put back from a backup.
    So nothing is removed but beside the draft of vault.toml, which is made first and is renamed last. Versions that wrote
    vault.toml in another way leave no such draft: then a person decides.
    """
    if SETTINGS in names or not all(name in (*_FILES, *_FOLDERS) or is_probe(name) for name in names):
        return False
    is_begun = _SETTINGS_DRAFT in names  # only then records of what needs two people are by that init, too
    for folder in _FOLDERS:
        there = os.listdir(path / folder) if folder in names else []
        records = [name for name in there if folder == CUSTODY and _is_of_making(name, changes_trust=is_begun)]
        if not all(name in records or name.startswith(TEMPORARY) for name in there):
            return False
    return True


def _is_of_making(name: str, *, changes_trust: bool) -> bool:
    filed = parse_record_file(name.removesuffix(SIGNATURE_SUFFIX))
    return filed == (1, "made") or (filed is not None and filed[1] == "trust-changed" and changes_trust)


def _first_writer(root_fd: int, at_ns: int) -> Writer | None:
    """Returns this machine, where locks do not hold between machines; else None."""
    if kind_of_file_system(root_fd).has_real_locks:
        return None
    machine = this_machine()
    return Writer(machine=machine.id, name=machine.name, since=format_utc_time(at_ns))


def _make_root(path: Path) -> bool:
    """Makes the folder; False where it was there, and empty or left by an init that was killed."""
    shown = safe_text(str(path), 200)
    try:
        above = os.open(path.parent, FOLDER_FLAGS & ~os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = f"Make it first: {shell_text('mkdir', '-p', str(path.parent))}"
        raise UsageError(f"there is no folder {safe_text(str(path.parent), 200)}", hint=hint) from error
    except OSError as error:
        raise storage_error(error, f"open the folder {safe_text(str(path.parent), 200)}") from error
    try:
        require_outside(above, shown, (), "A vault needs a folder of its own, and not one in another vault.")
    finally:
        os.close(above)
    with storing(f"make the folder {safe_text(str(path), 200)}"):
        try:
            path.mkdir(_PRIVATE_FOLDER)
        except FileExistsError:
            if not path.is_dir():
                raise UsageError(f"{shown} is there, and is no folder", hint="A vault needs a folder of its own.") from None
            _require_free(path)
            return False
    with opened_folder(path.resolve().parent) as parent:
        sync_folder(parent, "the folder that the vault lies in")
    return True
