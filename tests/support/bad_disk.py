"""A file system that fails where a test wants it to: real EIO from the kernel, at chosen bytes, with no device-mapper.

It speaks the kernel's own FUSE protocol over /dev/fuse (linux/fuse.h, version 7.31) and needs no library. Files lie in one
folder, are only read, and may be changed behind the reader's back by a hook that runs before each read is answered. A loop
device over such a file is a block device with bad sectors.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_SECONDS

_IN = struct.Struct("<IIQQIIII")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_ENTRY = struct.Struct("<QQQQII")
_READ = struct.Struct("<QQIIQII")
_LOOKUP, _GETATTR, _OPEN, _READ_OP, _STATFS, _RELEASE, _FLUSH, _INIT = 1, 3, 14, 15, 17, 18, 25, 26
_OPENDIR, _READDIR, _RELEASEDIR = 27, 28, 29
_SILENT = frozenset({2, 36, 42})  # FORGET, INTERRUPT, BATCH_FORGET
_DIRECT_IO = 1
_NOSUID_NODEV_RDONLY = 2 | 4 | 1
_DETACH = 2


@dataclass
class BadFile:
    """A file: its bytes, the ranges [from, to) of which no read succeeds, and the error for them.

    `before_read` is called with the file, an offset and a length, in the thread that answers. `healing` counts down: so many
    failures, and then the bad ranges are readable.
    """

    data: bytearray
    bad: list[tuple[int, int]] = field(default_factory=list)
    error: int = errno.EIO
    before_read: Callable[[BadFile, int, int], None] | None = None
    mtime_ns: int = 1_700_000_000_000_000_000
    ctime_ns: int = 1_700_000_000_000_000_000
    gone: bool = False
    failures: int = 0
    heals_after: int | None = None

    def touch(self, *, mtime: bool = True) -> None:
        """What a write does to the times, and with `mtime=False` what it does when the modification time is put back."""
        self.ctime_ns += 1_000_000
        self.mtime_ns += 1_000_000 if mtime else 0

    def read(self, offset: int, size: int) -> bytes:
        """Raises OSError where a bad byte is among them."""
        if self.before_read is not None:
            self.before_read(self, offset, size)
        end = min(offset + size, len(self.data))
        if any(start < end and offset < stop for start, stop in self.bad):
            self.failures += 1
            if self.heals_after is None or self.failures <= self.heals_after:
                raise OSError(self.error, os.strerror(self.error))
        return bytes(self.data[offset:end])


class BadDisk:
    """The mounted folder, and the thread that answers for it."""

    def __init__(self, place: Path, files: dict[str, BadFile]) -> None:
        self.place = place
        self.files = files
        self._names = list(files)
        self._fd = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"bad-disk", os.fsencode(place), b"fuse", _NOSUID_NODEV_RDONLY, options.encode()):
            os.close(self._fd)
            raise OSError(ctypes.get_errno(), "mount")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def unmount(self) -> None:
        """Ends it. Nothing may be open in it."""
        ctypes.CDLL(None).umount2(os.fsencode(self.place), _DETACH)
        self._thread.join(PATIENCE_SECONDS)
        os.close(self._fd)

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._fd, 256 * 1024)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                    continue
                return  # ENODEV: unmounted
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            if opcode in _SILENT:
                continue
            try:
                body, number = self._answer(opcode, node, request[_IN.size :]), 0
            except OSError as error:
                body, number = b"", error.errno or errno.EIO
            try:
                os.write(self._fd, _OUT.pack(_OUT.size + len(body), -number, unique) + body)
            except OSError as error:
                if error.errno != errno.ENOENT:  # whoever asked was interrupted
                    return

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes:
        match opcode:
            case _ if opcode == _INIT:
                _, _, readahead, _ = struct.unpack_from("<4I", body)
                return struct.pack("<IIIIHHIIHHI7I", 7, 31, readahead, 0, 12, 10, 128 * 1024, 1, 0, 0, 0, *[0] * 7)
            case _ if opcode == _LOOKUP:
                name = os.fsdecode(body.rstrip(b"\0"))
                if name not in self.files or self.files[name].gone:
                    raise OSError(errno.ENOENT, "no such file")
                node = self._names.index(name) + 2
                return _ENTRY.pack(node, 0, 0, 0, 0, 0) + self._attributes(node)
            case _ if opcode == _GETATTR:
                return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
            case _ if opcode in (_OPEN, _OPENDIR):
                return struct.pack("<QII", 0, _DIRECT_IO if opcode == _OPEN else 0, 0)
            case _ if opcode in (_RELEASE, _RELEASEDIR, _FLUSH):
                return b""
            case _ if opcode == _READ_OP:
                _, offset, size, *_ = _READ.unpack_from(body)
                return self._file(node).read(offset, size)
            case _ if opcode == _READDIR:
                _, offset, _, *_ = _READ.unpack_from(body)
                return self._list() if offset == 0 else b""
            case _ if opcode == _STATFS:
                return bytes(40) + struct.pack("<IIII6I", 4096, 255, 4096, 0, *[0] * 6)
        raise OSError(errno.ENOSYS, "not implemented")

    def _file(self, node: int) -> BadFile:
        return self.files[self._names[node - 2]]

    def _list(self) -> bytes:
        listing = b""
        for number, name in enumerate(self._names):
            if self.files[name].gone:
                continue
            raw = os.fsencode(name)
            listing += struct.pack("<QQII", number + 2, number + 1, len(raw), stat.S_IFREG >> 12) + raw + bytes(-len(raw) % 8)
        return listing

    def _attributes(self, node: int) -> bytes:
        if node == 1:
            return _ATTR.pack(1, 0, 0, 0, 0, 0, 0, 0, 0, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 4096, 0)
        file = self._file(node)
        size = len(file.data)
        mtime, mtime_ns = divmod(file.mtime_ns, 1_000_000_000)
        ctime, ctime_ns = divmod(file.ctime_ns, 1_000_000_000)
        mode, links = stat.S_IFREG | 0o644, 0 if file.gone else 1
        return _ATTR.pack(
            node, size, (size + 511) // 512, mtime, mtime, ctime, mtime_ns, mtime_ns, ctime_ns, mode, links, 0, 0, 0, 4096, 0
        )


@contextmanager
def bad_disk(place: Path, files: dict[str, BadFile]) -> Iterator[BadDisk]:
    """Mounts the files in a new folder for the length of a `with`. The test is skipped where nothing can be mounted."""
    place.mkdir()
    try:
        disk = BadDisk(place, files)
    except OSError:
        pytest.skip("the kernel refuses to mount here")
    try:
        yield disk
    finally:
        disk.unmount()


@contextmanager
def loop_device(
    file: Path, find_program: Callable[[str], str], *, read_only: bool = True, direct: bool = True, sector: int = 512
) -> Iterator[Path]:
    """A loop device over a file, for the length of a `with`. The test is skipped where there is none to be had."""
    program = find_program("losetup")
    options = [f"--sector-size={sector}", *(["--read-only"] if read_only else [])]
    made = subprocess.run([program, "--find", "--show", *options, str(file)], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip("the kernel refuses to mount here: no loop device")
    device = Path(made.stdout.strip())
    if direct:
        subprocess.run([program, "--direct-io=on", str(device)], check=False, capture_output=True)
    try:
        yield device
    finally:
        subprocess.run([program, "--detach", str(device)], check=True)
