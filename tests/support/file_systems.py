"""Fresh file systems of a chosen kind, to see what a vault costs on each."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MAKE = {
    "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q"],
    "ext4": ["mkfs.ext4", "-q", "-m", "0"],
}
SHARING = ("xfs", "btrfs")


@contextmanager
def mounted(kind: str, folder: Path, size: int, find_program: Callable[[str], str]) -> Iterator[Path]:
    """A new file system, mounted in a folder for the length of a `with`; XFS wants 300 MiB at least. The test is skipped where
    nothing can be mounted.
    """
    place = folder / kind
    place.mkdir()
    if kind == "tmpfs":
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(place)]
    else:
        image = folder / f"{kind}.img"
        with open(image, "wb") as file:
            file.truncate(size)
        program, *options = MAKE[kind]
        subprocess.run([find_program(program), *options, str(image)], check=True, capture_output=True)
        mount = ["mount", "-o", "loop", str(image), str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("the kernel refuses to mount here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def used_bytes(folder: Path) -> int:
    """What lies on the disk of a folder, after everything was written out."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        assert ctypes.CDLL(None).syncfs(fd) == 0
        found = os.fstatvfs(fd)
    finally:
        os.close(fd)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
