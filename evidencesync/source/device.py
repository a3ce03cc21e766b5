"""Reads block devices as sources: their content, their geometry, bad sectors, and what the system knows of them.

Devices are opened for reading only. Make, model and serial number come from the device itself, which may be hostile: every
text is bounded and escaped.
Sources: Documentation/ABI/stable/sysfs-block, udev's database under /run/udev/data, proc_pid_mountinfo(5), proc_swaps(5).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from evidencesync.errors import SourceNotFoundError, SourceReadError
from evidencesync.evidence.display import safe_text
from evidencesync.limits import KIB
from evidencesync.source.descriptor import FILE_FLAGS, NO_DEVICE, PASSAGE_FLAGS, is_gone, open_untouched
from evidencesync.source.details import DetailReader, Details
from evidencesync.source.reader import PAGE, OpenedFile, read_error
from evidencesync.source.root import SourceRoot, source_not_found
from evidencesync.source.salvage import STEP
from evidencesync.source.walker import Found

_LONGEST: Final = 200  # characters of one value
_MOST: Final = 64 * KIB  # of one file
_MOST_PARTITIONS: Final = 128
_UDEV_FIELDS: Final = {
    "bus": "ID_BUS",
    "vendor": "ID_VENDOR",
    "model": "ID_MODEL",
    "serial": "ID_SERIAL_SHORT",
    "wwn": "ID_WWN_WITH_EXTENSION",
    "revision": "ID_REVISION",
    "partition_table": "ID_PART_TABLE_TYPE",
    "partition_table_id": "ID_PART_TABLE_UUID",
    "partition_id": "ID_PART_ENTRY_UUID",
    "file_system": "ID_FS_TYPE",
    "file_system_id": "ID_FS_UUID",
}
_SYSFS_FILES: Final = {  # of the whole disk; the first that is there
    "vendor": ("device/vendor",),
    "model": ("device/model", "device/name"),
    "serial": ("device/serial", "serial"),
    "wwn": ("wwid", "device/wwid"),
    "revision": ("device/rev", "device/firmware_rev"),
    "removable": ("removable",),
    "rotational": ("queue/rotational",),
    "backing_file": ("loop/backing_file",),
    "sequence": ("diskseq",),
}
_YES_NO: Final = frozenset({"removable", "rotational"})
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_WRITE_COUNTS: Final = (4, 6, 11, 13)  # writes, sectors written, discards, sectors discarded
IMAGE_SUFFIX: Final = b".img"
"""A device NAME is the entry NAME.img: what is kept is an image of it."""
# linux/fs.h. None of them changes anything.
_BLKROGET: Final = 0x125E
_BLKSSZGET: Final = 0x1268
_BLKPBSZGET: Final = 0x127B
_BLKGETSIZE64: Final = 0x80001272 | struct.calcsize("N") << 16
_LEAST_SECTOR: Final = 512


def describe_device(number: int, *, system: Path = Path("/sys"), run: Path = Path("/run")) -> dict[str, str]:
    """The facts about the device with this number (st_rdev). What the system does not tell is absent."""
    name = _name(number)
    place = system / "dev/block" / name
    own = Path(os.path.realpath(place))
    is_partition = (own / "partition").exists()
    disk = own.parent if is_partition else own
    facts = {"number": name, "kind": "partition" if is_partition else "disk"}
    if is_partition:
        facts["disk"] = safe_text(disk.name, _LONGEST)
        for field, file in (("partition", "partition"), ("start_sector", "start")):
            if text := _text(own / file):
                facts[field] = text
    known = _udev(run / f"udev/data/b{name}")
    for field, key in _UDEV_FIELDS.items():
        if text := _clean(known.get(key, "")):
            facts[field] = text
    for field, files in _SYSFS_FILES.items():
        text = next((found for file in files if (found := _text(disk / file))), "")
        if text and field not in facts:
            facts[field] = ("no" if text == "0" else "yes") if field in _YES_NO else text
    if not is_partition and (partitions := list(_partitions(own))):
        facts["partitions"] = " ".join(partitions)
    return facts


def users_of(number: int, *, system: Path = Path("/sys"), proc: Path = Path("/proc")) -> list[str]:
    """What uses a device, or a partition of it, now: mounts, swap, and devices on top of it (LVM, RAID, crypt)."""
    own = Path(os.path.realpath(system / "dev/block" / _name(number)))
    parts = [own, *(own / part.split("@")[0] for part in _partitions(own))]
    numbers = {text for part in parts if (text := _text(part / "dev"))}
    users = []
    for line in _lines(proc / "self/mountinfo"):
        fields = line.split(" ")
        if len(fields) > 5 and fields[2] in numbers:
            writable = "read-only" if "ro" in fields[5].split(",") else "writable"
            users.append(f"mounted at {_unescaped(fields[4])} ({writable})")
    names = {f"/dev/{part.name}" for part in parts}
    users += [f"swap on {_clean(line.split()[0])}" for line in _lines(proc / "swaps")[1:] if line.split()[:1][0] in names]
    for part in parts:
        users += [f"part of {_clean(holder)}" for holder in _listed(part / "holders")]
    return users[:_MOST_PARTITIONS]


def writes_to(number: int, *, system: Path = Path("/sys")) -> tuple[str, ...]:
    """The kernel's counts of writes and discards of a device; empty if it does not tell."""
    fields = _text(system / "dev/block" / _name(number) / "stat").split()
    return tuple(fields[at] for at in _WRITE_COUNTS if at < len(fields))


def _name(number: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}"


def _partitions(disk: Path) -> Iterator[str]:
    """`NAME@START+SECTORS` of each, in sectors of 512 bytes."""
    names = sorted((name for name in _listed(disk) if (disk / name / "partition").exists()), key=lambda name: (len(name), name))
    for name in names[:_MOST_PARTITIONS]:
        yield f"{_clean(name)}@{_text(disk / name / 'start')}+{_text(disk / name / 'size')}"


def _udev(file: Path) -> dict[str, str]:
    """The properties in udev's database: lines `E:KEY=VALUE`."""
    return dict(line[2:].split("=", 1) for line in _lines(file) if line.startswith("E:") and "=" in line)


def _unescaped(text: str) -> str:
    """A mount point, in which the kernel writes spaces and the like as octal numbers."""
    return _clean(_OCTAL.sub(lambda found: chr(int(found[1], 8)), text))


def _lines(file: Path) -> list[str]:
    return _bytes(file).decode("utf-8", "replace").splitlines()


def _text(file: Path) -> str:
    return _clean(_bytes(file).decode("utf-8", "replace"))


def _clean(text: str) -> str:
    return safe_text(text.strip().strip("\0").strip(), _LONGEST)


def _bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST)
    except OSError:
        return b""  # an optional fact


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


class Geometry:
    """The kernel's facts about an open device: sizes of device and sectors, and whether it is read-only. Raises OSError."""

    __slots__ = ("logical_sector", "physical_sector", "read_only", "size")

    def __init__(self, fd: int) -> None:
        self.size = _ask(fd, _BLKGETSIZE64, "N")
        self.logical_sector = _ask(fd, _BLKSSZGET, "i")
        self.physical_sector = _ask(fd, _BLKPBSZGET, "I")
        self.read_only = bool(_ask(fd, _BLKROGET, "i"))


class OpenedDevice(OpenedFile):
    """A block device that is being read, up to the size that the kernel stated when it was opened.

    What was read is dropped from the page cache: an image of two terabytes must not evict everything else that the machine has
    in memory. (O_DIRECT for everything would lose read-ahead.) Bad sectors are searched with O_DIRECT, because the page cache
    reads only whole pages of eight sectors. `changed` also tells whether anybody wrote to the device meanwhile, by the kernel's
    own count.
    """

    __slots__ = ("_status", "_writes")

    def __init__(self, found: Found, fd: int, status: os.stat_result, *, noatime: bool) -> None:
        geometry = Geometry(fd)
        super().__init__(found, fd, geometry.size, noatime=noatime)
        self.unit = min(max(geometry.logical_sector, _LEAST_SECTOR), STEP)
        self._status = status
        self._writes = writes_to(status.st_rdev)

    def read_into(self, buffer: bytearray | memoryview) -> int:
        """See OpenedFile. A device that ends before its size has been removed: raises SourceReadError with ENODEV."""
        start = self.offset
        got = super().read_into(buffer)
        self._forget(start, got)
        if not got and len(buffer) and self.offset < self.size:
            raise read_error(self.found, OSError(errno.ENODEV, os.strerror(errno.ENODEV)), self.offset)
        return got

    def changed(self) -> bool:
        """Whether another device has the name, the size is another one, or something was written to the device."""
        try:
            now, size = os.fstat(self.fd), Geometry(self.fd).size
        except OSError:
            return True  # a device that cannot be queried any more counts as changed
        seen = self._status
        same = (now.st_rdev, now.st_mtime_ns, now.st_ctime_ns) == (seen.st_rdev, seen.st_mtime_ns, seen.st_ctime_ns)
        return not same or size != self.size or writes_to(seen.st_rdev) != self._writes

    def details(self, reader: DetailReader) -> Details:
        """The details of the device node."""
        return reader.of_found(self.found, self._status)

    @contextlib.contextmanager
    def close_reads(self) -> Iterator[Callable[[int, memoryview], None]]:
        """See OpenedFile. Bypasses the page cache, with a buffer that is aligned as O_DIRECT requires."""
        before = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        with mmap.mmap(-1, STEP) as aligned, memoryview(aligned) as view:

            def read_at(offset: int, room: memoryview) -> None:
                with view[: len(room)] as part:
                    if os.preadv(self.fd, [part], offset) != len(room):
                        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
                    room[:] = part

            fcntl.fcntl(self.fd, fcntl.F_SETFL, before | getattr(os, "O_DIRECT", 0))
            try:
                yield read_at
            finally:
                fcntl.fcntl(self.fd, fcntl.F_SETFL, before)

    def _forget(self, offset: int, length: int) -> None:
        if length:
            with contextlib.suppress(OSError):  # it is only advice
                os.posix_fadvise(self.fd, offset, -(-length // PAGE) * PAGE, os.POSIX_FADV_DONTNEED)

    def _goes_on(self) -> bool:
        return False


def find_device(source: SourceRoot) -> Iterator[Found]:
    """Yields the one entry of a device, as a walk does. Its descriptors are valid until the iterator goes on."""
    folder, name = os.path.split(source.path)
    try:
        fd = os.open(folder, PASSAGE_FLAGS)
    except OSError as error:
        raise source_not_found(source.path, error) from error
    try:
        path = name + IMAGE_SUFFIX
        try:
            status = os.lstat(name, dir_fd=fd)
        except OSError as error:
            raise source_not_found(source.path, error) from error
        yield Found(path, "block-device", status, fd, name)
    finally:
        os.close(fd)


def open_device(found: Found) -> OpenedDevice:
    """Opens a block device that `find_device` yields. Raises SourceReadError if it cannot be opened, or is no device any more.

    Without O_EXCL: a mounted device is read, too, with a warning to the user (see `device_warnings`).
    """
    try:
        fd, noatime = open_untouched(found.name, FILE_FLAGS, found.dir_fd)
    except OSError as error:
        raise read_error(found, error, 0, vanished=is_gone(error) or error.errno in NO_DEVICE) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISBLK(status.st_mode):
            raise read_error(found, FileNotFoundError(), 0, vanished=True)
        opened = OpenedDevice(found, fd, status, noatime=noatime)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    except OSError as error:
        os.close(fd)
        raise read_error(found, error, 0) from error
    except SourceReadError:
        os.close(fd)
        raise
    return opened


def geometry_of(source: SourceRoot) -> Geometry:
    """The geometry of a source that is a device. Raises SourceNotFoundError if it cannot be opened, or has no medium."""
    try:
        fd = os.open(source.path, FILE_FLAGS)
    except OSError as error:
        raise source_not_found(source.path, error) from error
    try:
        geometry = Geometry(fd)
    except OSError as error:
        raise SourceNotFoundError(f"the device does not say how large it is: {error.strerror}") from error
    finally:
        os.close(fd)
    if not geometry.size:
        raise SourceNotFoundError(f"the device {safe_text(source.path)} has no medium: its size is 0")
    return geometry


def _ask(fd: int, request: int, form: str) -> int:
    answer: int = struct.unpack(form, fcntl.ioctl(fd, request, bytes(struct.calcsize(form))))[0]
    return answer
