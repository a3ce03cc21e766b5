from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.errors import NoSpaceError
from evidencesync.vault.catalog import read_published
from evidencesync.vault.index.index import known_contents
from evidencesync.vault.item import lock_item
from evidencesync.vault.layout import Scope
from evidencesync.vault.ledger import sign_record
from evidencesync.vault.publish import STEPS, complete_unfinished, publish
from evidencesync.vault.space import check_space, free_bytes
from evidencesync.vault.staging import Staging
from evidencesync.vault.trust import vault_record
from tests.unit.vault.acquiring import Acquirer, check_published, new_signer, new_vault

SIZE = 4 << 20
SESSION = "c" * 32
FILES = {b"a": b"1" * 1000, b"b/c": b"2" * 1000}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    mount = tmp_path / "disk"
    mount.mkdir()
    options = f"size={SIZE},mode=0755"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", mount], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("the kernel refuses to mount here")
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)


@pytest.fixture
def acquirer(small_disk: Path) -> Acquirer:
    examiner = new_signer()
    return Acquirer(new_vault(small_disk / "vault", examiner), examiner)


def fill(disk: Path, leave: int = 0) -> Path:
    """Fills the disk up but for some bytes, and gives the file that does."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while free_bytes(disk) > leave:
                file.write(bytes(min(4096, free_bytes(disk) - leave)))
        except OSError:
            pass
    return filler


def test_every_way_of_writing_says_that_the_disk_is_full(small_disk: Path, acquirer: Acquirer) -> None:
    with lock_item(acquirer.item()) as item, Staging.create(item, SESSION) as staging:
        content = staging.new_content(1)
        content.append(b"x" * 100_000)
        source = os.open(content.path, os.O_RDONLY)
        fill(small_disk)
        big = b"x" * 2_000_000
        with pytest.raises(NoSpaceError):
            staging.tree.create_file(b"x", big, None)
        with pytest.raises(NoSpaceError):
            staging.tree.copy(b"y", source, 100_000, None)
        with pytest.raises(NoSpaceError):
            content.append(big)
        with pytest.raises(NoSpaceError):
            content.write_at(200_000, big)
        with pytest.raises(NoSpaceError):
            content.append_from(source, 0, 100_000)
        with pytest.raises(NoSpaceError):
            staging.append_manifest(big)
        with pytest.raises(NoSpaceError):
            staging.recipes.append(big)
        with pytest.raises(NoSpaceError):
            staging.rows.append(big)
        with pytest.raises(NoSpaceError):
            staging.sums.sha256sums.append(big)
        os.close(source)
        content.close()
    assert item.acquisitions() == []


def test_room_is_asked_for_before_anything_is_sent(small_disk: Path) -> None:
    with pytest.raises(NoSpaceError, match="in reserve"):
        check_space(small_disk, 1)
    fd = os.open(small_disk, os.O_RDONLY)
    try:
        assert free_bytes(fd) == free_bytes(small_disk) <= SIZE
    finally:
        os.close(fd)


def test_a_disk_that_is_full_while_documents_are_written_publishes_nothing(small_disk: Path, acquirer: Acquirer) -> None:
    acquirer.acquire(FILES)
    with lock_item(acquirer.item()) as item, Staging.create(item, SESSION) as staging:
        state = item.state()
        acquirer.stage(staging, state, FILES)
        documents = acquirer.documents(staging, state, len(FILES), 2000)
        filler = fill(small_disk)
        with pytest.raises(NoSpaceError, match="could not write"):
            publish(staging, documents)
        assert item.acquisitions() == [1]
        filler.unlink()
        assert publish(staging, documents).number == 2  # what was staged is still good
    check_published(acquirer.item(), 1, FILES)
    check_published(acquirer.item(), 2, FILES)


@pytest.mark.parametrize("step", STEPS[STEPS.index("renamed") :])
def test_a_disk_that_fills_up_after_the_commit_loses_nothing(small_disk: Path, acquirer: Acquirer, step: str) -> None:
    fillers: list[Path] = []

    def fault(reached: str) -> None:
        if reached == step:
            fillers.append(fill(small_disk))

    hint: str | None = "is published"
    try:
        acquirer.acquire(FILES, fault=fault)
    except NoSpaceError as error:  # whether the last small writes still fit is for the file system to say
        hint = error.hint
    assert hint is not None
    assert "is published" in hint
    fillers[0].unlink()
    with lock_item(acquirer.item()) as item:
        complete_unfinished(item)
        assert item.state().next_acquisition == 2
    check_published(item, 1, FILES)


def test_a_record_that_does_not_fit_leaves_the_chain_as_it_was(small_disk: Path, acquirer: Acquirer) -> None:
    vault = acquirer.vault
    record = vault_record(vault.settings, vault.ledger, "heads", {"note": "x" * 8000}, 10**18)
    signed = sign_record(record, vault.signer)
    filler = fill(small_disk)
    with pytest.raises(NoSpaceError):
        vault.ledger.append(*signed)
    assert vault.ledger.head().sequence == 1
    with pytest.raises(NoSpaceError):
        vault.trust.add(new_signer().public_key, "ben")
    assert len(vault.load_trust().signers.signers) == 2
    filler.unlink()
    vault.ledger.append(*signed)
    vault.trust.add(new_signer().public_key, "ben")
    assert vault.ledger.head().sequence == 3


def test_a_full_disk_makes_the_index_useless_and_nothing_else(small_disk: Path, acquirer: Acquirer) -> None:
    acquirer.acquire({b"%d" % number: b"" for number in range(2000)})
    item = acquirer.item()
    names = item.name.case.folder, item.name.item.folder
    filler = fill(small_disk)
    index = acquirer.vault.index()
    try:
        assert not index.add_acquisition(*names, 1, known_contents(read_published(item.layout, 1)))
        assert index.notices
        filler.unlink()
        assert index.add_acquisition(*names, 1, known_contents(read_published(item.layout, 1)))
        assert index.known(Scope("item", *names)) == 1
    finally:
        index.close()
