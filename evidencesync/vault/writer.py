"""Decides whether this machine may write to a vault, where locks do not hold between machines, and identifies the machine.

`vault.toml` names the writing machine. A vault that names one is written by that one alone, wherever it is now: the server may
see its file system as a local disk, and all others as a network file system.

Both the name and a lock are needed on a network file system: there flock(2) on a folder holds between the processes of one
machine, and may hold no further.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import hmac
import os
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from evidencesync.errors import OtherWriterError, VaultNotFoundError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.files.disk import load_file, locked_folder, opened_folder
from evidencesync.limits import MAX_VAULT_TOML
from evidencesync.vault.edited_settings import rewrite_settings
from evidencesync.vault.layout import SETTINGS, VaultLayout
from evidencesync.vault.settings import VaultSettings, Writer, encode_table, parse_settings

_PURPOSE: Final = b"evidencesync: which machine writes"
_MACHINE_IDS: Final = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
# In a container the machine-id may come from the image, and then all its containers have the same.
_CONTAINER_MARKS: Final = ("/.dockerenv", "/run/.containerenv")
_CONTAINER_VARIABLE: Final = "KUBERNETES_SERVICE_HOST"
_ID_CHARACTERS: Final = 32

# From statfs(2) and linux/magic.h: file systems on a disk of one machine, or that share flock on folders between machines.
# Any other has one writing machine: NFS (6969), CIFS and SMB2 (ff534d42, fe534d42), FUSE (65735546, which is also
# ntfs-3g, sshfs, gocryptfs and virtiofs), Lustre (bd00bd0), Ceph (c36400), 9p (1021997), GPFS (47504653), AFS (5346414f),
# BeeGFS (19830326), vboxsf (786f4256), eCryptfs (f15f, on top of any other), and all that are unknown.
REAL_LOCKS: Final[Mapping[int, str]] = MappingProxyType(
    {
        0xEF53: "ext2, ext3 or ext4",
        0x58465342: "xfs",
        0x9123683E: "btrfs",
        0x01021994: "tmpfs",
        0x858458F6: "ramfs",
        0x794C7630: "overlayfs",  # its upper layer is always local
        0xF2F52010: "f2fs",
        0x2FC12FC1: "zfs",
        0xCA451A4E: "bcachefs",
        0x4D44: "vfat",
        0x2011BAB0: "exfat",
        0x7366746E: "ntfs3",
        0x5346544E: "ntfs",
        0x3153464A: "jfs",
        0x52654973: "reiserfs",
        0x3434: "nilfs2",
        0x482B: "hfsplus",
        0x15013346: "udf",
        0x01161970: "gfs2",  # its locks hold in the whole cluster
        0x7461636F: "ocfs2",  # likewise
    }
)
_OTHERS: Final[Mapping[int, str]] = MappingProxyType(
    {
        0x6969: "nfs",
        0xFF534D42: "cifs",
        0xFE534D42: "smb2",
        0x517B: "smb",
        0x65735546: "fuse",
        0x0BD00BD0: "lustre",
        0x00C36400: "ceph",
        0x01021997: "9p",
        0x47504653: "gpfs",
        0x5346414F: "afs",
        0x6B414653: "afs",
        0x19830326: "beegfs",
        0x786F4256: "vboxsf",
        0xF15F: "ecryptfs",
    }
)


class Machine(msgspec.Struct, frozen=True):
    """A machine: a unique id, and its name for display."""

    id: str
    name: str


class FileSystemKind(msgspec.Struct, frozen=True):
    """The kind of a file system, for display, and whether a lock on a folder there holds for all who can write to it."""

    name: str
    has_real_locks: bool


def this_machine() -> Machine:
    """Identifies this machine. Raises nothing: where nothing identifies it for longer, the id changes at the next boot.

    1. Its machine-id (machine-id(5)) with its host name, so that two clones of one image differ; but not in a container, whose
    image may contain it.  2. Else the id of this boot of the kernel, which all its containers share: between them locks hold.
    3. On other systems the host name and a hardware address. Only a digest of it is stored.
    """
    name = os.uname().nodename
    machine_id = None if _is_container() else next(filter(None, map(_read_id, _MACHINE_IDS)), None)
    if machine_id is not None:
        seed = f"machine {machine_id} {name}"
    elif (boot_id := _read_id(_BOOT_ID)) is not None:
        seed = f"boot {boot_id}"
    else:
        seed = f"node {name} {uuid.getnode():012x}"
    digest = hmac.new(seed.encode("utf-8", "surrogateescape"), _PURPOSE, hashlib.sha256).hexdigest()
    return Machine(digest[:_ID_CHARACTERS], safe_text(name, 64) or "unnamed")


def kind_of_file_system(fd: int) -> FileSystemKind:
    """Returns the kind of the file system of an open file or folder. An unknown kind has no reliable locks."""
    magic = file_system_magic(fd)
    if magic is None:
        return FileSystemKind("unknown", has_real_locks=False)
    real = REAL_LOCKS.get(magic)
    return FileSystemKind(real or _OTHERS.get(magic, f"unknown (0x{magic:x})"), has_real_locks=real is not None)


def file_system_magic(fd: int) -> int | None:
    """Returns the type that statfs(2) reports; None where it cannot be called."""
    if sys.platform != "linux":
        return None
    buffer = ctypes.create_string_buffer(512)
    try:
        failed = ctypes.CDLL(None, use_errno=True).fstatfs(fd, buffer)
    except (AttributeError, OSError):
        return None
    width = 4 if os.uname().machine == "s390x" else ctypes.sizeof(ctypes.c_long)  # f_type comes first: a long, except there
    return None if failed else int.from_bytes(buffer.raw[:width], sys.byteorder) & 0xFFFFFFFF


def _is_container() -> bool:
    return _CONTAINER_VARIABLE in os.environ or any(os.path.lexists(mark) for mark in _CONTAINER_MARKS)


def _read_id(path: str) -> str | None:
    """Reads an id of hexadecimal digits; None for anything else, also for `uninitialized` of an image that never booted."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(64).decode("ascii").strip().replace("-", "").lower()
    except (OSError, UnicodeDecodeError):
        return None
    is_id = len(text) == 32 and all(character in "0123456789abcdef" for character in text) and text.strip("0")
    return text if is_id else None


_MODE: Final = 0o644
_TABLE: Final = re.compile(r"\n*^\[writer\]\n(?:(?!\[).*\n?)*", re.MULTILINE)


def load_settings(root_fd: int) -> VaultSettings:
    """Reads vault.toml as it is now. Raises VaultNotFoundError, and what `parse_settings` raises."""
    data = load_file(root_fd, SETTINGS, MAX_VAULT_TOML)
    if data is None:
        raise VaultNotFoundError(f"the vault has no {SETTINGS} any more")
    return parse_settings(data)


def kind_of_vault(vault: VaultLayout) -> FileSystemKind:
    """Returns the file system of a vault: that of a part of it without real locks, else that of its own folder."""
    kinds = []
    for folder in (vault.root, vault.custody, vault.cases):
        with opened_folder(folder) as fd:
            kinds.append(kind_of_file_system(fd))
    return next((kind for kind in kinds if not kind.has_real_locks), kinds[0])


def require_writer(vault: VaultLayout, folder_fd: int | None = None) -> None:
    """Raises OtherWriterError unless this machine may write to the vault, and into the open folder.

    vault.toml is read again each time: a session that began while this was the writing machine ends.
    """
    with opened_folder(vault.root) as root:
        writer = load_settings(root).writer
        kinds = [kind_of_file_system(fd) for fd in (root, folder_fd) if fd is not None]
    if writer is None:
        without = next((kind for kind in kinds if not kind.has_real_locks), None)
        if without is None:
            return
        raise OtherWriterError(
            f"the vault lies on {without.name}, where a lock does not hold between machines, and it names no writing machine",
            hint="On the one machine that is to write: evidencesync vault writer VAULT --take",
        )
    if writer.machine != this_machine().id:
        raise OtherWriterError(
            f"the machine that writes to this vault is {safe_text(writer.name, 64)}, since {writer.since}",
            hint="Write there. To move that here on purpose, when nothing writes there: evidencesync vault writer VAULT --take",
        )


@contextlib.contextmanager
def locked_for_writing(vault: VaultLayout, folder: os.PathLike[str], what: str, *, wait: bool = False) -> Iterator[int]:
    """Holds the lock of a vault's folder, if this machine may write to it. Raises OtherWriterError, LockedError."""
    with locked_folder(folder, what, wait=wait) as fd:
        require_writer(vault, fd)
        yield fd


@contextlib.contextmanager
def publishing(vault: VaultLayout) -> Iterator[None]:
    """Holds the folder of cases with others, while something is signed with the vault's key and published.

    Until the vault's own chain states it, the key may not change: see `vault.key_change`. Waits. Raises LockedError.
    """
    with locked_folder(vault.cases, "the vault's key", wait=True, shared=True):
        yield


@contextlib.contextmanager
def nothing_is_published(vault: VaultLayout) -> Iterator[None]:
    """Holds the folder of cases alone: nothing is published. Waits. Raises OtherWriterError, LockedError."""
    with locked_for_writing(vault, vault.cases, "the folder of cases", wait=True):
        yield


def name_writer(vault: VaultLayout, machine: Machine, at_ns: int) -> VaultSettings:
    """Names the writing machine in vault.toml, durably; all else in it stays as it is. Returns the new settings.

    Raises ConfigurationError where that is not possible without changing anything else.
    """
    writer = Writer(machine=machine.id, name=machine.name, since=format_utc_time(at_ns))

    def edited(text: str) -> str:
        return _TABLE.sub("\n", text).rstrip("\n") + "\n\n" + encode_table("writer", writer) + "\n"

    return rewrite_settings(vault, edited, lambda before: before.naming(writer), "Put its [writer] at its end.")
