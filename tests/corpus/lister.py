"""What the system says of a folder, by none of the package's code: the measure for manifests, restored copies, sources.

A listing has a dict for each path below the root (`b""` is the root). What the system does not tell is not in it:
`type`, `mode`, `uid`, `gid`, `user`, `group`, `size` (of regular files), `mtime`, `atime`, `ctime`, `btime` (nanoseconds),
`inode`, `device`, `links`, `rdev` ((major, minor), of devices), `target` (bytes), `xattrs` (bytes to bytes), `inode_flags`,
`sha256`; and `error` (an errno) where it could not be listed, or its content not read.
"""

from __future__ import annotations

import array
import base64
import ctypes
import fcntl
import grp
import hashlib
import json
import os
import pwd
import stat
from collections.abc import Container
from pathlib import Path
from typing import Any, Final

Listing = dict[bytes, dict[str, Any]]

LAYOUT_FLAGS: Final = 0x1000 | 0x40000 | 0x80000 | 0x10000000  # index, huge file, extents, inline data: how ext4 stores
_TYPES: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFBLK: "block-device",
    stat.S_IFCHR: "character-device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class _Moment(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_uint32), ("_", ctypes.c_int32))


class _Statx(ctypes.Structure):
    """statx(2), as far as the birth time."""

    _fields_ = (
        ("mask", ctypes.c_uint32), ("block_size", ctypes.c_uint32), ("attributes", ctypes.c_uint64), ("links", ctypes.c_uint32),
        ("uid", ctypes.c_uint32), ("gid", ctypes.c_uint32), ("mode", ctypes.c_uint16), ("_1", ctypes.c_uint16),
        ("inode", ctypes.c_uint64), ("size", ctypes.c_uint64), ("blocks", ctypes.c_uint64), ("attributes_mask", ctypes.c_uint64),
        ("atime", _Moment), ("btime", _Moment), ("rest", ctypes.c_ubyte * 160),
    )  # fmt: skip


def list_folder(root: Path, *, contents: bool = True) -> Listing:
    """Everything below a folder (or a single file, under its name). Follows nothing, opens only files and folders, and leaves
    their access times alone where it may; links are read, which may change theirs.
    """
    listing: Listing = {}
    if not root.is_dir():
        fd = os.open(root.parent, os.O_PATH)
        listing[os.fsencode(root.name)] = _describe(fd, os.fsencode(root.name), contents=contents)[0]
        os.close(fd)
        return listing
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    pending: list[tuple[bytes, int, bytes]] = [(b"", top, b".")]  # path, the folder above it, its name there
    holds = {top: 1}  # how many pending names need a folder's descriptor
    while pending:
        path, above, name = pending.pop()
        seen, fd = _describe(above, name, contents=contents)
        listing[path] = seen
        if fd >= 0:
            below = [os.fsencode(found) for found in os.listdir(fd)]
            pending += [(path + b"/" + found if path else found, fd, found) for found in below]
            holds[fd] = len(below)
            if not below:
                os.close(fd)
        holds[above] -= 1
        if not holds[above]:
            os.close(above)
    return listing


def read_manifest(path: Path) -> tuple[dict[str, Any], Listing, dict[str, Any]]:
    """Header, entries and footer of a manifest, read with nothing but `json`: entries have the keys of a listing, further
    lines are joined to theirs, and the rest (`flags`, `hardlink_to`, `blake3`, ...) stands as it is in the line.
    """
    header, *lines, footer = (json.loads(line) for line in path.read_bytes().splitlines())
    entries: Listing = {}
    entry: dict[str, Any] = {}
    for line in lines:
        if line["type"] == "continued":
            entry["xattrs"] |= _decoded(line.get("xattrs", {}))
            continue
        entry = dict(line)
        entries[_bytes_of(entry, "path")] = entry
        for time in ("mtime", "atime", "ctime", "btime"):
            if time in entry:
                entry[time] = int(entry[time].replace(".", ""))
        for name in ("inode", "device"):
            if name in entry:
                entry[name] = int(entry[name])
        for name in ("target", "hardlink_to"):
            if name in entry or f"{name}_b64" in entry:
                entry[name] = _bytes_of(entry, name)
        if "mode" in entry:
            entry["mode"] = int(entry["mode"], 8)
        if "xattrs" in entry:
            entry["xattrs"] = _decoded(entry["xattrs"])
        if "inode_flags" in entry:
            entry["inode_flags"] = int(entry["inode_flags"], 16)
        if "device_number" in entry:
            entry["rdev"] = tuple(map(int, entry.pop("device_number").split(":")))
    return header, entries, footer


def differences(expected: Listing, found: Listing, but: Container[str] = ()) -> list[str]:
    """What two listings say differently, one line each; `but` names fields that are not compared. Access times of symbolic links
    are never compared: looking at a link changes them.
    """
    lines = [f"missing: {path!r}" for path in sorted(expected.keys() - found.keys())]
    lines += [f"too much: {path!r}" for path in sorted(found.keys() - expected.keys())]
    for path in sorted(expected.keys() & found.keys()):
        one, other = expected[path], found[path]
        for name in FIELDS:
            if name in but or (name == "atime" and one["type"] == "symlink"):
                continue
            if one.get(name) != other.get(name):
                lines.append(f"{path!r}: {name} is {other.get(name)!r}, not {one.get(name)!r}")
    return lines


FIELDS: Final = (
    "type", "mode", "uid", "gid", "user", "group", "size", "mtime", "atime", "ctime", "btime", "inode", "device", "links",
    "rdev", "target", "xattrs", "inode_flags", "sha256",
)  # fmt: skip


def _describe(above: int, name: bytes, *, contents: bool) -> tuple[dict[str, Any], int]:
    """One name in an open folder; and its own descriptor where it is a folder that can be listed, else -1."""
    status = os.lstat(name, dir_fd=above)
    kind = _TYPES[stat.S_IFMT(status.st_mode)]
    seen: dict[str, Any] = {
        "type": kind,
        "mode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "mtime": status.st_mtime_ns,
        "atime": status.st_atime_ns,
        "ctime": status.st_ctime_ns,
        "inode": status.st_ino,
        "device": status.st_dev,
        "links": status.st_nlink,
    }
    for key, find, number in (("user", pwd.getpwuid, status.st_uid), ("group", grp.getgrgid, status.st_gid)):
        try:
            seen[key] = find(number)[0]
        except KeyError:
            continue
    by_path = b"/proc/self/fd/%d/%b" % (above, name)
    _add_birth(seen, above, name)
    _add_attributes(seen, by_path)
    if kind == "symlink":
        seen["target"] = os.readlink(name, dir_fd=above)
    elif kind in ("block-device", "character-device"):
        seen["rdev"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    elif kind == "file":
        seen["size"] = status.st_size
        fd = _open(seen, name, above, 0)
        if fd >= 0:
            _add_flags(seen, fd)
            with open(fd, "rb") as file:
                if contents:
                    seen["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    elif kind == "directory":
        fd = _open(seen, name, above, os.O_DIRECTORY)
        if fd >= 0:
            _add_flags(seen, fd)
        if fd >= 0 and not os.access(by_path, os.X_OK, effective_ids=True):
            seen["error"] = 13  # its names can be read, what they name cannot be looked at
            os.close(fd)
            fd = -1
        return seen, fd
    return seen, -1


def _open(seen: dict[str, Any], name: bytes, above: int, flags: int) -> int:
    flags |= os.O_RDONLY | os.O_NOFOLLOW
    try:
        try:
            return os.open(name, flags | os.O_NOATIME, dir_fd=above)
        except PermissionError:
            return os.open(name, flags, dir_fd=above)
    except OSError as error:
        seen["error"] = error.errno
        return -1


def _add_birth(seen: dict[str, Any], above: int, name: bytes) -> None:
    found = _Statx()
    statx = ctypes.CDLL(None, use_errno=True).statx
    if statx(above, name, 0x100, 0xFFF, ctypes.byref(found)) == 0 and found.mask & 0x800:  # AT_SYMLINK_NOFOLLOW; STATX_BTIME
        seen["btime"] = found.btime.seconds * 1_000_000_000 + found.btime.nanoseconds


def _add_attributes(seen: dict[str, Any], path: bytes) -> None:
    try:
        names = [os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False)]
    except OSError:
        return
    values = {}
    for name in names:
        try:
            values[name] = os.getxattr(path, name, follow_symlinks=False)
        except OSError:
            continue
    if values:
        seen["xattrs"] = values


def _add_flags(seen: dict[str, Any], fd: int) -> None:
    value = array.array("L", [0])
    try:
        fcntl.ioctl(fd, 0x80086601, value)  # FS_IOC_GETFLAGS
    except OSError:
        return
    flags = value[0] & 0xFFFFFFFF & ~LAYOUT_FLAGS
    if flags:
        seen["inode_flags"] = flags


def _bytes_of(line: dict[str, Any], name: str) -> bytes:
    text = line.pop(name, None)
    return text.encode() if text is not None else base64.b64decode(line.pop(f"{name}_b64"))


def _decoded(attributes: dict[str, str]) -> dict[bytes, bytes]:
    return {
        base64.b64decode(name[7:]) if name.startswith("base64:") else name.encode(): base64.b64decode(value)
        for name, value in attributes.items()
    }
