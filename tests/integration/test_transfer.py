"""What a push leaves in a vault, and how little it sends when the vault has most of it."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from evidencesync.errors import (
    InvalidNameError,
    LockedError,
    SourceNotFoundError,
    UntrustedSignerError,
    VaultNotFoundError,
)
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.vault.item import lock_item
from tests.support.bench_of_evidence import Bench, new_signer

MIB = 1 << 20


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def fill(source: Path) -> None:
    """Small and large files, an empty one, zeros, a duplicate, folders, a link, and odd names."""
    (source / "image.dd").write_bytes(noise(3 * MIB, 1) + bytes(2 * MIB) + noise(3 * MIB, 2))
    (source / "same.dd").write_bytes((source / "image.dd").read_bytes())
    (source / "zeros.dd").write_bytes(bytes(5 * MIB))
    (source / "empty").touch()
    (source / "logs" / "deep").mkdir(parents=True)
    for number in range(300):
        (source / "logs" / f"{number:03}.log").write_bytes(noise(number * 17, number))
    (source / "logs" / "deep" / "twin").write_bytes(noise(200, 7))
    (source / "logs" / "twin").write_bytes(noise(200, 7))
    (source / "link").symlink_to("/etc/passwd")
    Path(os.fsdecode(os.path.join(os.fsencode(source), b"bad\xff\nname\x1b[2J"))).write_bytes(b"odd")


def assert_kept(bench: Bench, number: int) -> None:
    """Every content of the source lies in the acquisition, byte for byte, and so says its manifest."""
    entries = bench.entries(number)
    data = os.fsencode(bench.acquisition(number) / "data")
    files = 0
    for folder, _, names in os.walk(os.fsencode(bench.source)):
        for name in names:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, os.fsencode(bench.source))
            if os.path.islink(path):
                assert entries[relative].target == os.readlink(path).decode()
                assert not os.path.lexists(os.path.join(data, relative))
                continue
            content = Path(os.fsdecode(path)).read_bytes()
            kept = Path(os.fsdecode(os.path.join(data, relative))).read_bytes()
            assert kept == content, relative
            assert entries[relative].sha256 == hashlib.sha256(content).hexdigest()
            assert entries[relative].blake3 == blake3(content).hexdigest()
            files += 1
    assert files == sum(entry.has_content for entry in entries.values())


@pytest.mark.parametrize("read_back", [True, False])
def test_everything_is_kept_and_stock_tools_agree(
    bench: Bench, read_back: bool, require_program: Callable[[str], str], tmp_path: Path
) -> None:
    fill(bench.source)
    outcome = bench.push(read_back=read_back)
    assert outcome.acquisition == 1
    assert_kept(bench, 1)
    folder = bench.acquisition(1)
    assert hashlib.sha256((folder / "manifest.jsonl").read_bytes()).hexdigest() == outcome.manifest_sha256
    trusted = bench.vault.layout.root / "trusted_signers"
    for document, namespace, who in (
        ("manifest.jsonl", "manifest@evidencesync", "ana@lab"),
        ("acquired.json", "custody@evidencesync", "ana@lab"),
        ("receipt.json", "receipt@evidencesync", "vault"),
        ("received.json", "custody@evidencesync", "vault"),
    ):
        with (folder / document).open("rb") as signed:
            subprocess.run(
                [require_program("ssh-keygen"), "-Y", "verify", "-f", trusted, "-r", trusted.parent / "revoked_keys",
                 "-I", who, "-n", namespace, "-s", f"{document}.sig"],
                cwd=folder, stdin=signed, check=True, capture_output=True,
            )  # fmt: skip
    subprocess.run([require_program("sha256sum"), "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True)
    subprocess.run([require_program("b3sum"), "--quiet", "--check", "BLAKE3SUMS"], cwd=folder, check=True)


def test_stored_files_are_read_only_and_dull(bench: Bench) -> None:
    tool = bench.source / "malware"
    tool.write_bytes(b"#!/bin/sh\n")
    tool.chmod(0o6777)
    bench.push()
    assert (bench.acquisition(1) / "data" / "malware").stat().st_mode & 0o7777 == 0o444
    assert bench.entries(1)[b"malware"].mode == "6777"


def test_an_unchanged_source_travels_as_names_and_is_linked(bench: Bench) -> None:
    fill(bench.source)
    bench.push()
    outcome = bench.push(compress="always")
    assert outcome.acquisition == 2
    assert outcome.literal_bytes == 0
    # A link's access time may have changed: then its page of the manifest is sent, however many lines that has.
    assert outcome.wire_sent < (bench.acquisition(2) / "manifest.jsonl").stat().st_size / 4
    assert_kept(bench, 2)
    for name in ("image.dd", "logs/299.log"):
        assert os.path.samefile(bench.acquisition(1) / "data" / name, bench.acquisition(2) / "data" / name)


def test_a_change_in_a_large_file_sends_the_chunks_around_it(bench: Bench) -> None:
    content = bytearray(noise(24 * MIB, 5))
    (bench.source / "disk.img").write_bytes(content)
    bench.push()
    content[9 * MIB : 9 * MIB + 100] = noise(100, 9)
    (bench.source / "disk.img").write_bytes(b"inserted" + content)
    outcome = bench.push()
    assert outcome.literal_bytes < 2 * MIB
    assert_kept(bench, 2)


def test_a_renamed_file_is_not_sent_again(bench: Bench) -> None:
    (bench.source / "a.img").write_bytes(noise(20 * MIB, 6))
    (bench.source / "small").write_bytes(noise(60_000, 7))
    bench.push()
    (bench.source / "a.img").rename(bench.source / "b.img")
    (bench.source / "small").rename(bench.source / "moved")
    outcome = bench.push()
    assert outcome.literal_bytes == 0
    assert outcome.wire_sent < 8_000
    assert_kept(bench, 2)


def test_another_item_of_the_case_is_looked_at_and_another_case_is_not(bench: Bench) -> None:
    (bench.source / "system.bin").write_bytes(noise(2 * MIB, 8))
    (bench.source / "small").write_bytes(noise(50_000, 9))
    bench.push()
    same_case = bench.push(name=ItemName(bench.name.case, Title("E2")))
    assert same_case.literal_bytes == 0
    other_case = bench.push(name=ItemName(Title("2026/12"), Title("E1")))
    assert other_case.literal_bytes == 2 * MIB + 50_000


def test_linked_and_copied_contents_never_share_an_inode_across_items(bench: Bench) -> None:
    (bench.source / "a").write_bytes(noise(200_000, 10))
    bench.push()
    other = ItemName(bench.name.case, Title("E2"))
    bench.push(name=other)
    copy = bench.vault.layout.item(other).acquisition(1) / "data" / "a"
    assert copy.read_bytes() == (bench.source / "a").read_bytes()
    assert not os.path.samefile(copy, bench.acquisition(1) / "data" / "a")


@pytest.mark.parametrize("name", ["big", "small"])
@pytest.mark.parametrize("read_back", [True, False])
def test_a_damaged_basis_is_not_used_and_its_bytes_are_fetched_again(bench: Bench, name: str, read_back: bool) -> None:
    (bench.source / "big").write_bytes(noise(6 * MIB, 11) + bytes(MIB) + noise(MIB, 12))
    (bench.source / "small").write_bytes(noise(70_000, 13))
    bench.push()
    flip_bit(bench.acquisition(1) / "data" / name, 40_000)
    outcome = bench.push(read_back=read_back)
    assert 0 < outcome.literal_bytes < 5 * MIB
    assert_kept(bench, 2)


def test_a_damaged_run_of_zeros_in_a_basis_is_noticed(bench: Bench) -> None:
    (bench.source / "big").write_bytes(noise(3 * MIB, 14) + bytes(4 * MIB) + noise(3 * MIB, 15))
    bench.push()
    flip_bit(bench.acquisition(1) / "data" / "big", 5 * MIB)
    bench.push(read_back=False)
    assert_kept(bench, 2)


def test_a_basis_that_has_vanished_is_sent_again(bench: Bench) -> None:
    fill(bench.source)
    bench.push()
    shutil.rmtree(bench.acquisition(1) / "data" / "logs")
    (bench.acquisition(1) / "data" / "image.dd").unlink()
    bench.push()
    assert_kept(bench, 2)


def test_a_lost_index_costs_bytes_and_nothing_else(bench: Bench) -> None:
    fill(bench.source)
    bench.push()
    shutil.rmtree(bench.vault.layout.index)
    bench.push()
    assert_kept(bench, 2)
    assert bench.push().literal_bytes == 0


def test_a_single_file_lies_under_its_own_name(bench: Bench) -> None:
    image = bench.source / "disk.E01"
    image.write_bytes(noise(3 * MIB, 16))
    bench.push(source=os.fsencode(image))
    assert (bench.acquisition(1) / "data" / "disk.E01").read_bytes() == image.read_bytes()
    assert list(bench.entries(1)) == [b"disk.E01"]


def test_an_empty_folder_is_an_acquisition(bench: Bench) -> None:
    outcome = bench.push()
    assert outcome.tally.manifest.counts == {"directory": 1}
    assert os.listdir(bench.acquisition(1) / "data") == []


def test_a_local_push_leaves_the_source_as_it_was(bench: Bench) -> None:
    fill(bench.source)
    before = snapshot(bench.source)
    bench.push()
    assert snapshot(bench.source) == before


def snapshot(folder: Path) -> list[tuple[str, tuple[int, ...]]]:
    found = []
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        times = (status.st_mtime_ns, status.st_ctime_ns) + (() if path.is_symlink() else (status.st_atime_ns,))
        found.append((str(path), (status.st_mode, status.st_nlink, status.st_size, *times)))
    return found


# Bad input: the right error, and nothing published.


def test_a_source_that_is_not_there(bench: Bench) -> None:
    with pytest.raises(SourceNotFoundError):
        bench.push(source=b"/no/such/source")
    assert bench.acquisitions() == []


def test_another_vault_than_the_served_one_is_refused(bench: Bench) -> None:
    with pytest.raises(VaultNotFoundError):
        bench.push(vault=b"/another/vault")


def test_a_key_that_is_not_trusted_is_refused_before_any_data_travels(bench: Bench) -> None:
    (bench.source / "big").write_bytes(noise(3 * MIB, 17))
    with pytest.raises(UntrustedSignerError) as caught:
        bench.push(signer=new_signer())
    assert caught.value.exit_code == 32
    assert bench.acquisitions() == []
    assert not bench.vault.layout.item(bench.name).root.exists()


def test_a_revoked_key_is_refused(bench: Bench) -> None:
    bench.push()
    bench.vault.trust.revoke(bench.signer.public_key, "lost")
    with pytest.raises(UntrustedSignerError, match="revoked"):
        bench.push()


@pytest.mark.parametrize("title", ["../up", "/etc", "a/../b", "", "..", "x\x1b[2J", " padded "])
def test_a_case_name_that_could_lead_elsewhere_is_refused(title: str) -> None:
    with pytest.raises(InvalidNameError):
        Title(title)


def test_two_pushes_of_one_item_at_once_do_not_mix(bench: Bench) -> None:
    bench.push()
    with lock_item(bench.vault.item(bench.name)), pytest.raises(LockedError) as caught:
        bench.push()
    assert caught.value.exit_code == 11
    assert bench.push().acquisition == 2


def flip_bit(path: Path, offset: int) -> None:
    """What a failing disk does: the file is changed behind everybody's back, its times stay."""
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    path.chmod(0o444)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_the_sender_is_told_that_a_basis_was_damaged(bench: Bench) -> None:
    (bench.source / "small").write_bytes(noise(70_000, 13))
    assert bench.push().damaged == 0
    flip_bit(bench.acquisition(1) / "data" / "small", 5)
    assert bench.push().damaged == 1


def test_a_large_file_that_cannot_be_read_to_its_end_is_recorded_and_the_rest_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench.source / "bad").write_bytes(noise(9 * MIB, 18))
    (bench.source / "good").write_bytes(noise(2 * MIB, 19))
    real = os.preadv

    def failing(fd: int, buffers: list[memoryview], offset: int) -> int:
        """What a bad sector does: everything before it can be read, and nothing from there on."""
        if os.readlink(f"/proc/self/fd/{fd}").endswith("source/bad") and offset + len(buffers[0]) > 5 * MIB:
            raise OSError(5, "Input/output error")
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", failing)
    outcome = bench.push()
    assert outcome.tally.manifest.flags == {"unreadable": 1}
    entries = bench.entries(1)
    assert entries[b"bad"].flags == ["unreadable"]
    assert entries[b"bad"].blake3 is None
    assert not (bench.acquisition(1) / "data" / "bad").exists()
    assert (bench.acquisition(1) / "data" / "good").read_bytes() == noise(2 * MIB, 19)


def test_names_that_come_after_a_folder_was_listed_are_not_passed_over_in_silence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench.source / "a").mkdir()
    (bench.source / "m").write_bytes(noise(MIB, 20))
    (bench.source / "z").mkdir()
    (bench.source / "z" / "evidence").write_bytes(b"moved while it was walked")
    real = os.preadv

    def moving(fd: int, buffers: list[memoryview], offset: int) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("source/m") and (bench.source / "z" / "evidence").exists():
            (bench.source / "z" / "evidence").rename(bench.source / "a" / "evidence")
            (bench.source / "new").touch()
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", moving)
    outcome = bench.push()
    assert outcome.tally.changed_folders == 2  # the root has got a name, and so has `a`, which was left before
    acquired = (bench.acquisition(1) / "acquired.json").read_text()
    assert '"folders_changed_while_read": "2"' in acquired
