"""Reads the system's facts about a block device: make, model, serial number, partitions, and what uses it.

Most of them come from the device itself, which may be hostile: every text is bounded and escaped.
Sources: Documentation/ABI/stable/sysfs-block, udev's database under /run/udev/data, proc_pid_mountinfo(5), proc_swaps(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from evidencesync.evidence.display import safe_text
from evidencesync.limits import KIB

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
