"""Block devices as sources: loop devices, which for the kernel are disks like any other."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import mmap
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evidencesync.errors import SourceNotFoundError, SourceReadError, UsageError
from evidencesync.limits import KIB, MIB
from evidencesync.source.device import find_device, open_device
from evidencesync.source.minimum_size import minimum_bytes
from evidencesync.source.origin import device_facts, device_warnings
from evidencesync.source.root import resolve_source
from evidencesync.verify.audit import audit_vault
from tests.support.bad_disk import loop_device
from tests.support.bench_of_evidence import Bench
from tests.support.file_systems import mounted
from tests.support.moments import LONG_AFTER_NS

SIZE = 12 * MIB + 3 * 512
FindProgram = Callable[[str], str]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk whose size is no multiple of a page, with zeros in the middle."""
    chance = random.Random(3)
    path = tmp_path / "backing"
    path.write_bytes(chance.randbytes(4 * MIB) + bytes(4 * MIB) + chance.randbytes(SIZE - 8 * MIB))
    return path


@pytest.fixture
def device(image: Path, require_program: FindProgram) -> Iterator[Path]:
    with loop_device(image, require_program, read_only=False) as found:
        yield found


def test_an_image_of_a_device_is_the_device_and_the_manifest_says_what_it_was(bench: Bench, image: Path, device: Path) -> None:
    before = device.stat()
    outcome = bench.push(source=os.fsencode(device))
    after = device.stat()
    name = f"{device.name}.img"
    stored = bench.acquisition(1) / "data" / name
    assert stored.read_bytes() == image.read_bytes()
    (entry,) = bench.entries(1).values()
    assert (entry.type, entry.path, entry.size) == ("block-device", name, SIZE)
    assert entry.sha256 == hashlib.sha256(image.read_bytes()).hexdigest()
    assert entry.device_number == f"{os.major(before.st_rdev)}:{os.minor(before.st_rdev)}"
    assert (entry.flags, entry.read_errors) == (None, None)
    assert outcome.zero_bytes == 4 * MIB
    assert (after.st_atime_ns, after.st_mtime_ns) == (before.st_atime_ns, before.st_mtime_ns)
    header = json.loads((bench.acquisition(1) / "manifest.jsonl").read_text().split("\n", 1)[0])
    facts = header["source"]["device"]
    assert (facts["size"], facts["logical_sector"], facts["read_only"], facts["kind"]) == (str(SIZE), "512", "no", "disk")
    assert facts["backing_file"] == str(image)
    assert "file_system" not in header["source"]
    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS, all_digests=True)
    assert verdict.verdict == "pass"


def test_what_a_full_device_takes_is_told_before_it_is_read_and_of_one_with_free_parts_nobody_knows(
    tmp_path: Path, require_program: FindProgram
) -> None:
    """A vault refuses at once what cannot fit. Zeros take no room there."""
    image = tmp_path / "backing"
    image.write_bytes(b"\1" * (64 * MIB))
    with loop_device(image, require_program, read_only=False) as device:
        before = device.stat()
        source = resolve_source(device)
        assert minimum_bytes(source) == 64 * MIB
        assert device.stat().st_atime_ns == before.st_atime_ns
        with device.open("r+b") as file:
            file.seek(32 * MIB)
            file.write(bytes(2 * MIB))
        assert minimum_bytes(source) == 0


def test_an_unchanged_device_is_linked_and_an_edit_costs_its_own_bytes(
    bench: Bench, image: Path, require_program: FindProgram
) -> None:
    with loop_device(image, require_program) as device:
        bench.push(source=os.fsencode(device))
        again = bench.push(source=os.fsencode(device))
    assert (again.literal_bytes, again.stored.linked.files) == (0, 1)
    with image.open("r+b") as file:
        file.seek(9 * MIB)
        file.write(b"edited")
    with loop_device(image, require_program) as device:
        edited = bench.push(source=os.fsencode(device))
    assert edited.literal_bytes < 16 * KIB
    assert (bench.acquisition(3) / "data" / f"{device.name}.img").read_bytes() == image.read_bytes()


def test_a_link_to_a_device_is_followed_once_and_said(bench: Bench, device: Path, tmp_path: Path) -> None:
    (tmp_path / "by-id").symlink_to(device)
    bench.push(source=os.fsencode(tmp_path / "by-id"))
    header = json.loads((bench.acquisition(1) / "manifest.jsonl").read_text().split("\n", 1)[0])
    assert any("through a symbolic link" in note for note in header["notes"])
    assert set(bench.entries(1)) == {os.fsencode(device.name) + b".img"}


@pytest.mark.parametrize("sector", [512, 4096])
def test_the_sector_of_a_device_is_what_it_says(sector: int, image: Path, tmp_path: Path, require_program: FindProgram) -> None:
    (tmp_path / "whole").write_bytes(image.read_bytes()[: 12 * MIB])
    with loop_device(tmp_path / "whole", require_program, sector=sector) as device:
        steps = find_device(resolve_source(device))
        with open_device(next(steps)) as opened:
            assert (opened.unit, opened.size) == (sector, 12 * MIB)
        steps.close()  # type: ignore[attr-defined]


def test_what_was_read_is_not_kept_in_the_page_cache(device: Path) -> None:
    steps = find_device(resolve_source(device))
    with open_device(next(steps)) as opened:
        buffer = bytearray(4 * MIB)
        while opened.offset < opened.size:
            assert opened.read_into(buffer)
            assert _resident(opened.fd, opened.offset) == 0
    steps.close()  # type: ignore[attr-defined]


def test_a_device_that_is_written_to_while_it_is_read_has_changed(device: Path) -> None:
    steps = find_device(resolve_source(device))
    with open_device(next(steps)) as opened:
        assert not opened.changed()
        opened.read_into(bytearray(MIB))
        assert not opened.changed()
        fd = os.open(device, os.O_WRONLY)
        os.pwrite(fd, b"x", 0)
        os.fsync(fd)
        os.close(fd)
        assert opened.changed()
    steps.close()  # type: ignore[attr-defined]


def test_a_device_that_grows_while_it_is_read_ends_where_it_ended_and_has_changed(
    image: Path, device: Path, require_program: FindProgram
) -> None:
    steps = find_device(resolve_source(device))
    with open_device(next(steps)) as opened:
        with image.open("ab") as file:
            file.write(bytes(MIB))
        subprocess.run([require_program("losetup"), "--set-capacity", str(device)], check=True)
        buffer = bytearray(SIZE + 2 * MIB)
        assert opened.read_into(buffer) == SIZE
        assert opened.read_into(buffer) == 0
        assert opened.changed()
    steps.close()  # type: ignore[attr-defined]


def test_a_device_that_shrinks_while_it_is_read_has_gone_from_there(
    image: Path, device: Path, require_program: FindProgram
) -> None:
    steps = find_device(resolve_source(device))
    with open_device(next(steps)) as opened:
        buffer = bytearray(4 * MIB)
        assert opened.read_into(buffer) == 4 * MIB
        os.truncate(image, 8 * MIB)
        subprocess.run([require_program("losetup"), "--set-capacity", str(device)], check=True)
        assert opened.read_into(buffer) == 4 * MIB
        with pytest.raises(SourceReadError) as caught:
            opened.read_into(buffer)
        assert (caught.value.errno, caught.value.offset) == (errno.ENODEV, 8 * MIB)
        assert opened.changed()
    steps.close()  # type: ignore[attr-defined]


def test_a_device_in_use_and_without_write_protection_is_told_and_read(
    bench: Bench, tmp_path: Path, require_program: FindProgram
) -> None:
    with mounted("ext4", tmp_path, 16 * MIB, require_program) as place:
        found = subprocess.run(["findmnt", "-no", "SOURCE", str(place)], check=True, capture_output=True, text=True)
        source = resolve_source(found.stdout.strip())
        first, second = device_warnings(source)
        assert "not write-protected" in first
        assert f"mounted at {place} (writable)" in second
        assert device_facts(source)["in_use"] == f"mounted at {place} (writable)"
        bench.push(source=source.path)
    assert bench.acquisitions() == ["0001"]


def test_a_write_protected_device_gives_no_warning(image: Path, require_program: FindProgram) -> None:
    with loop_device(image, require_program) as device:
        assert device_warnings(resolve_source(device)) == []


def test_a_device_without_a_medium_is_refused(tmp_path: Path, require_program: FindProgram) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with loop_device(tmp_path / "empty", require_program) as device, pytest.raises(SourceNotFoundError, match="no medium"):
        device_facts(resolve_source(device))


@pytest.mark.parametrize("kind", ["character device", "FIFO"])
def test_what_cannot_be_read_twice_is_refused_with_a_hint(kind: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError) as caught:
        resolve_source("/dev/null" if kind == "character device" else tmp_path / "fifo")
    assert kind in (caught.value.hint or "")


def test_split_images_travel_as_the_files_they_are(bench: Bench) -> None:
    parts = {name: random.Random(name).randbytes(300 * KIB) for name in ("d.E01", "d.E02", "d.001", "d.002", "d.E01.txt")}
    for name, data in parts.items():
        (bench.source / name).write_bytes(data)
    bench.push()
    assert {name: (bench.acquisition(1) / "data" / name).read_bytes() for name in parts} == parts


def _resident(fd: int, size: int) -> int:
    """Bytes of an open device that are in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    assert libc.mincore(address, size, pages) == 0
    assert libc.munmap(address, size) == 0
    return sum(page & 1 for page in pages.raw) * mmap.PAGESIZE
