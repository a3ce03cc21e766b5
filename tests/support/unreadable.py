"""A place that the system does not let this process read: without a mount, and for root as well."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest


class Unreadable:
    """The system refuses one place of a vault, in one of the ways in which disks and modes do so."""

    def __init__(self, patch: pytest.MonkeyPatch, place: Path, how: str) -> None:
        self._place = str(place)
        self._how = how
        self._broken: dict[int, os.stat_result] = {}
        for name in ("open", "scandir", "stat", "fstat", "listdir", "lstat"):
            patch.setattr(os, name, getattr(self, f"_{name}")(getattr(os, name)))

    def _is_it(self, path: object, dir_fd: int | None) -> bool:
        if isinstance(path, int):
            found = os.readlink(f"/proc/self/fd/{path}")
        else:
            above = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd()
            found = os.path.join(above, os.fsdecode(path))  # type: ignore[arg-type]
        return found == self._place

    def _open(self, call: Callable[..., int]) -> Callable[..., int]:
        def opened(path: object, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            if self._is_it(path, dir_fd):
                if self._how == "open":
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                if self._how == "read" and os.path.isfile(self._place):
                    fd = call("/proc/self/mem", os.O_RDONLY)  # a file of which the kernel gives no byte: EIO
                    self._broken[fd] = os.lstat(self._place)
                    return fd
            return call(path, flags, mode, dir_fd=dir_fd)

        return opened

    def _scandir(self, call: Callable[..., object]) -> Callable[..., object]:
        def listed(path: object) -> object:
            if self._how == "read" and self._is_it(path, None):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(path)

        return listed

    _listdir = _scandir

    def _stat(self, call: Callable[..., object]) -> Callable[..., object]:
        def looked_at(path: object, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> object:
            if self._how == "stat" and self._is_it(path, dir_fd):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

        return looked_at

    def _lstat(self, call: Callable[..., object]) -> Callable[..., object]:
        def looked_at(path: object, *, dir_fd: int | None = None) -> object:
            if self._how == "stat" and self._is_it(path, dir_fd):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(path, dir_fd=dir_fd)

        return looked_at

    def _fstat(self, call: Callable[..., object]) -> Callable[..., object]:
        def looked_at(fd: int) -> object:
            if fd in self._broken and os.readlink(f"/proc/self/fd/{fd}").endswith("/mem"):
                return self._broken[fd]
            if self._how == "stat" and self._is_it(fd, None):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(fd)

        return looked_at
