"""One of everything that evidence is made of, in a given folder: names, contents, links, special files, metadata.

`build` says of each thing whether it is there or what the system answered: a file system need not have everything, and an
ordinary user may not make everything. `demolish` removes it all, whatever protects it.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import random
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
NANO: Final = 1_000_000_000

FS_IOC_GETFLAGS: Final = 0x80086601  # linux/fs.h; the same on x86-64 and arm64
FS_IOC_SETFLAGS: Final = 0x40086602
IMMUTABLE: Final = 0x10
APPEND: Final = 0x20
NODUMP: Final = 0x40
NOATIME: Final = 0x80
SYNC: Final = 0x8

NAMES: Final[dict[str, bytes]] = {
    "plain": b"plain",
    "not UTF-8": b"\xff\xfe not utf-8",
    "UTF-8 that is cut off": b"cut off \xe2\x82",
    "a surrogate in UTF-8": b"surrogate \xed\xa0\x80",
    "a NUL in two bytes": b"nul \xc0\x80",
    "a newline": b"line\nbreak",
    "only a newline": b"\n",
    "a newline at the end": b"ends with\n",
    "a carriage return": b"over\rwrite",
    "a carriage return at the end": b"ends with\r",
    "a tab": b"tab\tbed",
    "ESC": b"\x1b]0;title\x07\x1b[31mred\x1b[0m",
    "C1 as UTF-8": "csi \u009b31m next \u0085 line".encode(),
    "C1 as bytes": b"raw \x9b31m",
    "DEL": b"\x7f",
    "BEL": b"\x07",
    "a bidirectional override": "\u202egpj.exe".encode(),
    "bidirectional isolates": "\u2066left\u2069 \u200fright".encode(),
    "no width": "zero\u200bwidth\ufeff".encode(),
    "private use": "\ue000\U000f0000".encode(),
    "tags": "tag \U000e0041\U000e007f".encode(),
    "255 bytes": b"n" * 255,
    "255 bytes that are not UTF-8": b"\xfe" * 255,
    "255 bytes of a script": "あ".encode() * 85,
    "upper case": b"CASE",
    "lower case": b"case",
    "composed": "caf\u00e9".encode(),
    "decomposed": "cafe\u0301".encode(),
    "sharp s": "stra\u00dfe".encode(),
    "double s": b"strasse",
    "a leading dash": b"-rf",
    "two leading dashes": b"--help",
    "a lonely dash": b"-",
    "a device of Windows": b"CON",
    "a device of Windows with an ending": b"aux.txt",
    "a colon": b"C:stream",
    "a backslash": b"back\\slash",
    "a backslash at the end": b"ends with\\",
    "an escaped newline": b"back\\nslash",
    "question marks": b'what?*<>|"',
    "dot at the end": b"dot.",
    "space at the end": b"space ",
    "space at the beginning": b" space",
    "only a space": b" ",
    "two dots and more": b"..data",
    "three dots": b"...",
    "hidden": b".hidden",
    "markup": b"[bold]loud [red] [link=x]",
    "HTML": b"<script>alert(1)<&amp;>",
    "a shell's": b"$(reboot) `id` ;&| '\"",
    "percent": b"%s%n%00",
    "a comment": b"# comment",
    "an exclamation": b"!important",
    "a tilde": b"~",
    "like a digest's line": b"0" * 64 + b"  file",
    "like a manifest": b"manifest.jsonl",
    "like our own leftovers": b".new-0001",
    "emoji": "\U0001f9ea".encode(),
}

TIMES: Final[dict[str, int]] = {
    "1901": -2_147_483_648 * NANO + 1,
    "1927 with nanoseconds": -1_356_998_400 * NANO + 123_456_789,
    "half a second before 1970": -NANO // 2,
    "a nanosecond before 1970": -1,
    "1970": 0,
    "a nanosecond after 1970": 1,
    "now or so": 1_732_320_000_123_456_789,
    "2038": 2_147_483_648 * NANO + 987_654_321,
    "2106": 4_294_967_296 * NANO + 5,
    "2262": 9_223_372_037 * NANO + 999_999_999,
    "2400": 13_569_465_600 * NANO + 1,
}

TARGETS: Final[dict[bytes, bytes]] = {
    b"to a file": b"../contents/small",
    b"to a folder": b"../contents",
    b"to its own folder": b".",
    b"to above": b"../..",
    b"dangling": b"nowhere at all",
    b"absolute": b"/etc/passwd",
    b"to itself": b"to itself",
    b"loop one": b"loop two",
    b"loop two": b"loop one",
    b"not UTF-8": b"\xff/\x1b[31m",
    b"a newline": b"a\nb",
    b"spaces at its ends": b" a ",
    b"as long as can be": b"t" * 4095,
}


@dataclass(frozen=True)
class Made:
    """One thing of the corpus: its path below the root, and why it is not there, where it is not."""

    what: str
    path: bytes
    refused: str | None = None


@dataclass
class _Site:
    """Where things are being made, and what came of each."""

    root: bytes
    privileged: bool
    made: list[Made] = field(default_factory=list)

    def at(self, path: bytes) -> bytes:
        return self.root + b"/" + path

    def folder(self, path: bytes) -> bytes:
        os.mkdir(self.at(path))
        return self.at(path)

    def make(self, what: str, path: bytes, work: Callable[..., object], *arguments: object, **named: object) -> None:
        """Calls `work` with the path; what the system refuses is noted, anything else is a defect of the corpus."""
        refused = None
        try:
            work(self.at(path), *arguments, **named)
        except OSError as error:
            refused = errno.errorcode.get(error.errno or 0, "") + f": {error.strerror}"
        self.made.append(Made(what, path, refused))


def build(root: Path, *, privileged: bool) -> list[Made]:
    """Makes the corpus in an empty folder. `privileged`: also what only root may make (devices, owners, trusted attributes)."""
    site = _Site(os.fsencode(root), privileged)
    for part in (_contents, _names, _deep, _links, _special, _closed, _modes, _attributes, _inode_flags, _times):
        part(site)
    return site.made


def demolish(root: Path) -> None:
    """Removes the folder with all that is in it, however deep and however protected. Does nothing where it is not there."""
    if not os.path.lexists(root):
        return
    above = os.open(root.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _remove(os.fsencode(root.name), above)
    finally:
        os.close(above)


@contextmanager
def busy(root: Path) -> Iterator[None]:
    """While this lasts, `contents/busy` is open for writing and locked as programs lock what they use."""
    with open(root / "contents/busy", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with open(root / "contents/busy", "r+b") as second:
            fcntl.lockf(second, fcntl.LOCK_EX)
            yield


# --- What is in it -----------------------------------------------------------------------------------------------------


def _write(content: bytes) -> Callable[[bytes], None]:
    def work(path: bytes) -> None:
        with open(path, "xb") as file:
            file.write(content)

    return work


def _sparse(size: int, islands: dict[int, bytes]) -> Callable[[bytes], None]:
    def work(path: bytes) -> None:
        with open(path, "xb") as file:
            file.truncate(size)
            for offset, content in islands.items():
                file.seek(offset)
                file.write(content)

    return work


def _contents(site: _Site) -> None:
    chance = random.Random(20)
    site.folder(b"contents")
    for what, path, content in (
        ("an empty file", b"empty", b""),
        ("one byte", b"one", b"\0"),
        ("a small file", b"small", b"evidence\n"),
        ("a file that others use", b"busy", b"in use\n"),
        ("the largest small file", b"128k", chance.randbytes(128 * KIB)),
        ("the smallest large file", b"128k and one", chance.randbytes(128 * KIB + 1)),
        ("a large file", b"5m", chance.randbytes(5 * MIB + 12_345)),
        ("the same large file again", b"5m again", random.Random(20).randbytes(128 * KIB)),
        ("zeros that are written", b"zeros", bytes(MIB)),
    ):
        site.make(what, b"contents/" + path, _write(content))
    site.make("nothing but a hole", b"contents/hole", _sparse(3 * MIB + 1, {}))
    site.make(
        "islands in a hole", b"contents/islands", _sparse(48 * MIB, {5 * MIB: b"land", 40 * MIB - 3: chance.randbytes(9_000)})
    )
    site.make("an empty folder", b"empty folder", os.mkdir)


def _names(site: _Site) -> None:
    site.folder(b"names")
    site.folder(b"names of folders")
    for what, name in NAMES.items():
        site.make(f"a file's name: {what}", b"names/" + name, _write(name + b"\n"))
        site.make(f"a folder's name: {what}", b"names of folders/" + name, os.mkdir)
    with contextlib.suppress(OSError):
        _write(b"inside")(site.at(b"names of folders/" + NAMES["not UTF-8"] + b"/inside"))


def _deep(site: _Site) -> None:
    """Folders in folders, until a path is twice as long as the longest that a system call takes."""
    name = b"deep-" + b"d" * 195
    fd = os.open(site.root, os.O_RDONLY | os.O_DIRECTORY)
    path = b""
    try:
        for _ in range(42):
            path += b"/" + name if path else name
            os.mkdir(name, dir_fd=fd)
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        with open(os.open(b"at the bottom", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as file:
            file.write(b"found\n")
        os.symlink(b"at the bottom", b"link at the bottom", dir_fd=fd)
    finally:
        os.close(fd)
    site.made.append(Made("a path longer than PATH_MAX", path + b"/at the bottom"))


def _symlink(path: bytes, target: bytes) -> None:
    os.symlink(target, path)


def _link(path: bytes, other: bytes) -> None:
    os.link(other, path, follow_symlinks=False)


def _links(site: _Site) -> None:
    site.folder(b"links")
    site.folder(b"other links")
    for name, target in TARGETS.items():
        site.make(f"a symbolic link: {os.fsdecode(name)}", b"links/" + name, _symlink, target)
    site.make("a file with three names", b"links/hard one", _write(b"hard\n"))
    for name in (b"links/hard two", b"other links/hard three"):
        site.make("one more name of a file", name, _link, site.at(b"links/hard one"))
    site.make("a larger file with two names", b"links/large one", _write(random.Random(3).randbytes(300 * KIB)))
    site.make("its other name", b"other links/large two", _link, site.at(b"links/large one"))
    site.make(
        "a symbolic link with two names",
        b"other links/dangling",
        _link,
        site.at(b"links/dangling"),
    )


def _special(site: _Site) -> None:
    site.folder(b"special")
    site.make("a FIFO", b"special/fifo", os.mkfifo)
    site.make("a FIFO with two names", b"special/fifo again", _link, site.at(b"special/fifo"))
    site.make("a socket", b"special/socket", _socket)
    if site.privileged:
        for what, name, kind, numbers in (
            ("a character device", b"null", stat.S_IFCHR, (1, 3)),
            ("a character device that must not be read", b"kmsg", stat.S_IFCHR, (1, 11)),
            ("a block device", b"loop0", stat.S_IFBLK, (7, 0)),
            ("a device with large numbers", b"large", stat.S_IFBLK, (4095, 1_048_575)),
        ):
            device = os.makedev(*numbers)
            site.make(what, b"special/" + name, os.mknod, kind | 0o640, device)


def _socket(path: bytes) -> None:
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(b"/proc/self/fd/%d/%b" % (fd, name))  # a socket's address has 108 bytes at most
    finally:
        os.close(fd)


def _closed(site: _Site) -> None:
    """What an ordinary user cannot read (and root can)."""
    site.folder(b"closed")
    site.make("a file without permissions", b"closed/file", _write(b"secret\n"))
    os.chmod(site.at(b"closed/file"), 0)
    for what, name, mode in (
        ("a folder without permissions", b"folder", 0),
        ("a folder that can be listed only", b"listed", 0o444),
        ("a folder that can be passed only", b"passed", 0o111),
    ):
        site.make(what, b"closed/" + name, os.mkdir)
        _write(b"inside\n")(site.at(b"closed/" + name + b"/inside"))
        os.chmod(site.at(b"closed/" + name), mode)


def _modes(site: _Site) -> None:
    site.folder(b"modes")
    for mode in (0o4755, 0o2755, 0o6711, 0o1644, 0o0400, 0o7777, 0o0644):
        site.make(f"mode {mode:04o}", b"modes/%04o" % mode, _write(b"#!/bin/true\n"))
        os.chmod(site.at(b"modes/%04o" % mode), mode)
    for mode in (0o1777, 0o2750):
        site.make(f"a folder of mode {mode:04o}", b"modes/folder %04o" % mode, os.mkdir)
        os.chmod(site.at(b"modes/folder %04o" % mode), mode)
    if site.privileged:
        for owner, group in ((12_345, 54_321), (4_294_967_294, 4_294_967_294), (65_534, 65_534), (1, 0)):
            name = b"modes/owner %d" % owner
            site.make(f"owner {owner}", name, _write(b"owned\n"))
            site.make(f"owned by {owner}", name, os.chown, owner, group)


def _acl(*entries: tuple[int, int, int]) -> bytes:
    """linux/posix_acl_xattr.h: version 2, then tag, permissions and id of each entry."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


_NOBODY: Final = 0xFFFFFFFF
_ACL: Final = _acl((1, 6, _NOBODY), (2, 4, 1000), (4, 4, _NOBODY), (8, 5, 100), (16, 5, _NOBODY), (32, 0, _NOBODY))
_CAPABILITY: Final = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # linux/capability.h: cap_net_bind_service=ep


def _set_many(path: bytes) -> None:
    for number in range(1200):
        os.setxattr(path, b"user.m%04d" % number, b"%d" % number)


def _attributes(site: _Site) -> None:
    site.folder(b"attributes")
    wanted: list[tuple[str, bytes, bytes, bytes]] = [
        ("an attribute", b"note", b"user.note", b"seized"),
        ("an attribute without a value", b"empty", b"user.empty", b""),
        ("an attribute of bytes", b"bytes", b"user.bytes", bytes(range(256))),
        ("an attribute with a name that is not UTF-8", b"odd", b"user.\xff\x1b[31m", b"odd"),
        ("an attribute with a newline in its name", b"newline", b"user.a\nb", b"odd"),
        ("a larger attribute", b"large", b"user.large", b"x" * 3000),
        ("an access list", b"acl", b"system.posix_acl_access", _ACL),
    ]
    if site.privileged:
        wanted += [
            ("a trusted attribute", b"trusted", b"trusted.overlay.opaque", b"y"),
            ("a capability", b"capability", b"security.capability", _CAPABILITY),
            ("a security label", b"label", b"security.selinux", b"system_u:object_r:etc_t:s0\0"),
        ]
    for what, name, key, value in wanted:
        path = b"attributes/" + name
        _write(name + b"\n")(site.at(path))
        site.make(what, path, os.setxattr, key, value)
    site.make("a folder with attributes", b"attributes/folder", os.mkdir)
    site.make("... its attribute", b"attributes/folder", os.setxattr, b"user.note", b"folder")
    site.make("... its default access list", b"attributes/folder", os.setxattr, b"system.posix_acl_default", _ACL)
    many = b"attributes/many"
    _write(b"many\n")(site.at(many))
    for number in range(40):
        site.make("one of many attributes", many, os.setxattr, b"user.n%02d" % number, b"v")
    _write(b"more\n")(site.at(b"attributes/more"))
    site.make("more attributes than a line of a manifest holds", b"attributes/more", _set_many)
    _write(b"huge\n")(site.at(b"attributes/huge"))
    for name in (b"user.huge", b"user.huge too"):
        site.make("an attribute as large as can be", b"attributes/huge", os.setxattr, name, b"h" * 65_000)
    if site.privileged:
        os.symlink(b"note", site.at(b"attributes/link"))
        site.make(
            "a symbolic link with an attribute",
            b"attributes/link",
            os.setxattr,
            b"trusted.note",
            b"link",
            follow_symlinks=False,
        )
        os.mkfifo(site.at(b"attributes/fifo"))
        site.make("a FIFO with an attribute", b"attributes/fifo", os.setxattr, b"trusted.note", b"fifo")


def inode_flags(fd: int) -> int:
    """What `lsattr` shows, as a number."""
    value = array.array("L", [0])
    fcntl.ioctl(fd, FS_IOC_GETFLAGS, value)
    return value[0] & 0xFFFFFFFF


def add_inode_flags(path: bytes, flags: int) -> None:
    """What `chattr +` does."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, array.array("L", [inode_flags(fd) | flags]))
    finally:
        os.close(fd)


def _inode_flags(site: _Site) -> None:
    site.folder(b"flags")
    wanted = [("nodump", NODUMP), ("noatime", NOATIME), ("sync", SYNC)]
    if site.privileged:
        wanted += [("immutable", IMMUTABLE), ("append only", APPEND), ("both", IMMUTABLE | APPEND)]
    for what, flags in wanted:
        path = b"flags/" + what.encode()
        _write(b"kept\n")(site.at(path))
        site.make(f"inode flags: {what}", path, add_inode_flags, flags)
    os.mkdir(site.at(b"flags/folder"))
    site.make("inode flags of a folder", b"flags/folder", add_inode_flags, NODUMP)


def _times(site: _Site) -> None:
    site.folder(b"times")
    for what, modified in TIMES.items():
        path = b"times/" + what.encode()
        _write(b"old\n")(site.at(path))
        site.make(f"times: {what}", path, os.utime, ns=(modified - 1, modified))
    os.mkdir(site.at(b"times/folder"))
    site.make("times of a folder", b"times/folder", os.utime, ns=(NANO + 1, NANO + 2))
    os.symlink(b"folder", site.at(b"times/link"))
    site.make("times of a link", b"times/link", os.utime, ns=(NANO + 3, NANO + 4), follow_symlinks=False)


# --- Taking it away ----------------------------------------------------------------------------------------------------


def _remove(name: bytes, above: int) -> None:
    """Removes one name in an open folder, and all below it."""
    status = os.lstat(name, dir_fd=above)
    if not stat.S_ISDIR(status.st_mode):
        try:
            os.unlink(name, dir_fd=above)
        except PermissionError:
            _unprotect(name, above)
            os.unlink(name, dir_fd=above)
        return
    with contextlib.suppress(PermissionError):
        os.chmod(name, 0o700, dir_fd=above)
    _unprotect(name, above)
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
    try:
        for below in os.listdir(fd):
            _remove(os.fsencode(below), fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=above)


def _unprotect(name: bytes, above: int) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=above)
    try:
        flags = inode_flags(fd)
        if flags & (IMMUTABLE | APPEND):
            fcntl.ioctl(fd, FS_IOC_SETFLAGS, array.array("L", [flags & ~(IMMUTABLE | APPEND)]))
    except OSError:
        return  # the file system has no such flags
    finally:
        os.close(fd)
