"""What a reader must know about the machine before believing a number."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs"})


def file_system_of(folder: Path) -> str:
    """Type of the file system that `folder` lies on, and its device: `ext4 on /dev/sda1`."""
    best, answer = "", "unknown"
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return answer
    for line in mounts.splitlines():
        device, point, kind = line.split(" ")[:3]
        if Path(point) in (folder, *folder.parents) and len(point) >= len(best):
            best, answer = point, kind if kind in MEMORY_FILE_SYSTEMS else f"{kind} on {device}"
    return answer


def is_in_memory(folder: Path) -> bool:
    """Whether writing there is no writing to a disk."""
    return file_system_of(folder) in MEMORY_FILE_SYSTEMS


def take_memory(folder: Path, size_bytes: int) -> None:
    """Makes sure that a run's memory is there, where `folder` lies in memory: that much is written, and removed.

    A virtual machine gets its memory from its host page by page, and may have given it back since. Whoever comes first
    would pay for that, many times what writing costs.
    """
    if not is_in_memory(folder):
        return
    block, name = bytes(MIB), folder / "memory"
    with name.open("wb", buffering=0) as file:
        for _ in range(min(size_bytes, _free_bytes() // 2) // MIB):
            file.write(block)
    name.unlink()


def _free_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def describe_machine(evidencesync: str) -> list[tuple[str, str]]:
    """Processor, memory, kernel, and the versions of all that takes part."""
    facts = [
        ("processor", f"{os.cpu_count()} x {_processor()}"),
        ("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("python", platform.python_version()),
    ]
    for name, command in (
        ("rsync", ["rsync", "--version"]),
        ("ssh", ["ssh", "-V"]),
        ("hashdeep", ["hashdeep", "-V"]),
        ("b3sum", ["b3sum", "--version"]),
        ("borg", ["borg", "--version"]),
        ("restic", ["restic", "version"]),
        ("casync", ["casync", "--version"]),
        ("evidencesync", [evidencesync, "--version"]),
    ):
        facts.append((name, _first_line(command)))
    return facts


def load_average() -> str:
    """One, five and fifteen minutes."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def _first_line(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = (done.stdout or done.stderr).strip()
    return words.splitlines()[0] if done.returncode == 0 and words else "does not say"
