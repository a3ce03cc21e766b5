"""Collects the facts about this machine, the source and its file system that a manifest states."""

from __future__ import annotations

import os
import platform
import re
import socket
from pathlib import Path
from typing import Final

import msgspec

from evidencesync.custody.documents import Origin
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.path import to_json_fields
from evidencesync.source.device import describe_device, geometry_of, users_of
from evidencesync.source.root import SourceRoot

_MACHINE_ID: Final = Path("/etc/machine-id")
_MOUNTS: Final = Path("/proc/self/mountinfo")
_IDENTIFIER: Final = re.compile(r"[0-9a-f]{32}")  # machine-id(5)
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
_MOST_USERS: Final = 2000  # characters
_LONGEST: Final = 200  # characters of a host's or a system's name


def describe_origin(source: SourceRoot) -> Origin:
    """The facts about the machine, the path and the file system of a source. What can not be told is absent."""
    path, path_b64 = to_json_fields(source.path)
    return msgspec.structs.replace(
        this_machine(),
        path=path,
        path_b64=path_b64,
        file_system=None if source.is_device else file_system_of(source.path),
        device=device_facts(source) if source.is_device else None,
    )


def this_machine() -> Origin:
    """The facts about this machine alone, for what has no path."""
    return Origin(
        host=safe_text(socket.gethostname(), _LONGEST),
        operating_system=safe_text(_operating_system(), _LONGEST),
        machine_id=_machine_id(),
    )


def device_facts(source: SourceRoot) -> dict[str, str]:
    """The facts about a device. Size and sectors are always among them. Raises SourceNotFoundError."""
    geometry = geometry_of(source)
    number = os.stat(source.path).st_rdev
    facts = {
        "size": str(geometry.size),
        "logical_sector": str(geometry.logical_sector),
        "physical_sector": str(geometry.physical_sector),
        "read_only": "yes" if geometry.read_only else "no",
        **describe_device(number),
    }
    if users := users_of(number):
        facts["in_use"] = "; ".join(users)[:_MOST_USERS]
    return facts


def device_warnings(source: SourceRoot) -> list[str]:
    """Warnings before a device is imaged: it is not write-protected, or it is in use."""
    facts, name = device_facts(source), safe_text(source.path, _LONGEST)
    warnings = []
    if facts["read_only"] == "no":
        warnings.append(f"{name} is not write-protected (blockdev --setro, or a write blocker): it is only read here")
    if "in_use" in facts:
        warnings.append(f"{name} is in use: {facts['in_use']}. What is written meanwhile may or may not be in the image")
    return warnings


def file_system_of(path: bytes) -> str | None:
    """The type of the file system of a path, by the kernel's name; None if the system does not tell.

    Source: proc_pid_mountinfo(5).
    """
    try:
        device = os.lstat(path).st_dev
        table = _MOUNTS.read_bytes()
    except OSError:
        return None  # an optional fact: the walk itself will say what is wrong with the path
    return find_file_system(table, f"{os.major(device)}:{os.minor(device)}", os.path.realpath(path))


def find_file_system(table: bytes, device: str, real_path: bytes) -> str | None:
    """The file system type that a mount table gives for a device number, else for the nearest mount point above a path.

    The second way is for btrfs, whose subvolumes have device numbers that the table does not list.
    """
    wanted = device.encode("ascii")
    nearest: tuple[int, bytes] | None = None
    for line in table.splitlines():
        fields, _, rest = line.partition(b" - ")
        left, right = fields.split(b" "), rest.split(b" ")
        if len(left) < 6 or len(right) < 2:
            continue
        if left[2] == wanted:
            return safe_text(right[0], _LONGEST)
        mounted_at = _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), left[4])
        below = mounted_at.rstrip(b"/") + b"/"
        if (real_path + b"/").startswith(below) and (nearest is None or len(below) >= nearest[0]):
            nearest = (len(below), right[0])
    return safe_text(nearest[1], _LONGEST) if nearest is not None else None


def _operating_system() -> str:
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']} ({kernel})"
    except (OSError, KeyError):
        return kernel


def _machine_id() -> str | None:
    try:
        text = _MACHINE_ID.read_text("ascii", "replace").strip()
    except OSError:
        return None
    return text if _IDENTIFIER.fullmatch(text) else None
