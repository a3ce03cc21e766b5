"""Fresh file systems of a chosen kind, to see what a vault costs on each."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MAKE = {
    "xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q"],
    "ext4": ["mkfs.ext4", "-q", "-m", "0"],
    "vfat": ["mkfs.vfat", "-F", "32"],
}
SHARING = ("xfs", "btrfs")


@contextmanager
def mounted(kind: str, folder: Path, size: int, find_program: Callable[[str], str]) -> Iterator[Path]:
    """A new file system, mounted in a folder for the length of a `with`; XFS wants 300 MiB at least. The test is skipped where
    nothing can be mounted.
    """
    if os.geteuid() != 0:  # nobody else may, and mkfs may not even look at the disks around it
        pytest.skip("the kernel refuses to mount here")
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


@contextmanager
def mount(*arguments: str | Path) -> Iterator[None]:
    """Mounts something for the length of a `with`; the last argument is where. The test is skipped where that is not allowed."""
    if subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode:
        pytest.skip("the kernel refuses to mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", arguments[-1]], check=True)


@contextmanager
def bound(folder: Path, place: Path) -> Iterator[Path]:
    """A folder, mounted once more in an empty one for the length of a `with`. The test is skipped where that is refused."""
    place.mkdir()
    with mount("--bind", folder, place):
        yield place


def mount_again(place: Path) -> None:
    """Mounts a file system of `mounted` again after a power cut. No process may have anything of it open.

    A process that another test started meanwhile in a mount namespace of its own may keep the one that was stopped alive for a
    moment, and it would be mounted again as it is: so its loop device has to be gone first.
    """
    subprocess.run(["umount", place], check=True, capture_output=True)
    image = place.with_name(f"{place.name}.img")
    for _ in range(600):
        if not subprocess.run(["losetup", "--associated", image], check=True, capture_output=True).stdout:
            break
        time.sleep(0.1)
    subprocess.run(["mount", "-o", "loop", image, place], check=True, capture_output=True)


def used_bytes(folder: Path) -> int:
    """What lies on the disk of a folder, after everything was written out."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        assert ctypes.CDLL(None).syncfs(fd) == 0
        found = os.fstatvfs(fd)
    finally:
        os.close(fd)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
