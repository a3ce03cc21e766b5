from __future__ import annotations

import os
import platform
import socket
import subprocess
from pathlib import Path

import msgspec
import pytest

from evidencesync.custody.documents import Origin
from evidencesync.source.origin import describe_origin, file_system_of, find_file_system
from evidencesync.source.root import resolve_source

TABLE = rb"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /mnt/a\040b rw - btrfs /dev/sdb rw
31 22 0:27 /sub /mnt/a\040b/deep rw,noatime master:1 - xfs /dev/sdc rw
32 22 0:28 / /mnt/a\040b rw - nfs4 host:/x rw
short line
"""


def test_the_facts_are_this_machines(tmp_path: Path) -> None:
    origin = describe_origin(resolve_source(tmp_path))
    assert origin.host == socket.gethostname()
    assert platform.release() in origin.operating_system
    assert (origin.path, origin.path_b64) == (str(tmp_path), None)
    identifier = Path("/etc/machine-id")
    assert origin.machine_id == (identifier.read_text().strip() or None if identifier.exists() else None)
    assert msgspec.json.decode(msgspec.json.encode(origin), type=Origin) == origin


def test_a_path_that_is_not_text_is_base64(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(folder)
    origin = describe_origin(resolve_source(folder))
    assert origin.path is None
    assert origin.path_b64 is not None


@pytest.mark.parametrize("path", ["/", "/proc", "/dev/null"])
def test_the_file_system_is_what_df_says(path: str) -> None:
    shown = subprocess.run(["df", "--output=fstype", path], capture_output=True, text=True, check=True)
    assert file_system_of(os.fsencode(path)) == shown.stdout.split()[1]


def test_a_path_that_is_not_there_has_no_file_system() -> None:
    assert file_system_of(b"/nowhere/at/all") is None


@pytest.mark.parametrize(
    ("device", "path", "expected"),
    [
        ("0:27", b"/anything", "xfs"),
        ("0:99", b"/home/x", "ext4"),
        ("0:99", b"/mnt/a b/deep/file", "xfs"),
        ("0:99", b"/mnt/a b/deeper", "nfs4"),  # of two mounts on one point the later covers the earlier
        ("0:99", b"/mnt/a b", "nfs4"),
    ],
)
def test_the_mount_table_is_read_as_the_kernel_writes_it(device: str, path: bytes, expected: str) -> None:
    assert find_file_system(TABLE, device, path) == expected


def test_an_empty_table_tells_nothing() -> None:
    assert find_file_system(b"", "1:2", b"/") is None
