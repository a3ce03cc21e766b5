"""What the system tells of a device, from trees that look like /sys, /run and /proc: a device can say anything of itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidencesync.custody.documents import Origin
from evidencesync.custody.text import check_texts
from evidencesync.evidence.display import is_clean
from evidencesync.source.device import describe_device, users_of, writes_to

DISK, PART = os.makedev(8, 16), os.makedev(8, 17)
EVIL = "Ev\x1b[31mil\u202e \x00"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A SATA disk with two partitions, of which the second is mounted."""
    disk = tmp_path / "sys/devices/pci/sdb"
    for file, text in {
        "dev": "8:16",
        "size": "2048",
        "removable": "1",
        "queue/rotational": "0",
        "diskseq": "7",
        "device/vendor": "ATA     ",
        "device/model": f"MODEL {EVIL}",
        "device/wwid": "naa.5000c500a",
        "device/rev": "SN05",
        "stat": "  10 0 80 1 22 0 176 3 0 4 4 5 0 40 0 0 0",
        "sdb1/partition": "1",
        "sdb1/dev": "8:17",
        "sdb1/start": "34",
        "sdb1/size": "100",
        "sdb10/partition": "10",
        "sdb10/dev": "8:26",
        "sdb10/start": "134",
        "sdb10/size": "200",
        "sdb10/holders/dm-3/name": "",
    }.items():
        (disk / file).parent.mkdir(parents=True, exist_ok=True)
        (disk / file).write_text(text + "\n")
    numbers = tmp_path / "sys/dev/block"
    numbers.mkdir(parents=True)
    (numbers / "8:16").symlink_to(disk)
    (numbers / "8:17").symlink_to(disk / "sdb1")
    (tmp_path / "run/udev/data").mkdir(parents=True)
    (tmp_path / "run/udev/data/b8:16").write_text(
        "I:1\nE:ID_SERIAL_SHORT=S3RIAL\nE:ID_PART_TABLE_TYPE=gpt\nE:NOTHING\nE:ID_BUS=ata\n"
    )
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(
        "30 1 8:17 / /mnt/a\\040b rw,noatime shared:1 - ext4 /dev/sdb1 rw\n"
        "31 1 9:17 / /elsewhere rw - ext4 /dev/sdc1 rw\nbroken\n"
    )
    (tmp_path / "proc/swaps").write_text("Filename Type Size Used Priority\n/dev/sdb10 partition 8 0 -2\n/swapfile file 8 0 -3\n")
    return tmp_path


def test_a_disk_says_what_it_is_and_no_text_of_it_is_unclean(root: Path) -> None:
    facts = describe_device(DISK, system=root / "sys", run=root / "run")
    assert facts == {
        "number": "8:16",
        "kind": "disk",
        "bus": "ata",
        "serial": "S3RIAL",
        "partition_table": "gpt",
        "vendor": "ATA",
        "model": facts["model"],
        "wwn": "naa.5000c500a",
        "revision": "SN05",
        "removable": "yes",
        "rotational": "no",
        "sequence": "7",
        "partitions": "sdb1@34+100 sdb10@134+200",
    }
    assert facts["model"].startswith("MODEL Ev")
    assert all(is_clean(text) for text in facts.values())
    check_texts(Origin(host="h", operating_system="o", device=facts), "a device")


def test_a_partition_names_its_disk_and_what_the_disk_is(root: Path) -> None:
    facts = describe_device(PART, system=root / "sys", run=root / "run")
    assert (facts["kind"], facts["disk"], facts["partition"], facts["start_sector"]) == ("partition", "sdb", "1", "34")
    assert facts["revision"] == "SN05"
    assert "partitions" not in facts


def test_whoever_uses_a_disk_or_a_partition_of_it_is_named(root: Path) -> None:
    assert users_of(DISK, system=root / "sys", proc=root / "proc") == [
        "mounted at /mnt/a b (writable)",
        "swap on /dev/sdb10",
        "part of dm-3",
    ]
    assert users_of(PART, system=root / "sys", proc=root / "proc") == ["mounted at /mnt/a b (writable)"]


def test_writes_are_counted_and_reads_are_not(root: Path) -> None:
    assert writes_to(DISK, system=root / "sys") == ("22", "176", "5", "40")


def test_a_system_that_tells_nothing_is_no_failure(tmp_path: Path) -> None:
    assert describe_device(DISK, system=tmp_path, run=tmp_path) == {"number": "8:16", "kind": "disk"}
    assert users_of(DISK, system=tmp_path, proc=tmp_path) == []
    assert writes_to(DISK, system=tmp_path) == ()


def test_a_text_without_end_is_cut(root: Path) -> None:
    (root / "sys/devices/pci/sdb/device/vendor").write_text("x" * 1_000_000)
    assert len(describe_device(DISK, system=root / "sys", run=root / "run")["vendor"]) <= 210
