"""What the vault's chain states of an item is found quickly, and no index of it says more or less than the records do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.custody.sshsig import sign_document
from evidencesync.errors import ChainError
from evidencesync.evidence.digest import sha512_of
from evidencesync.evidence.identity import ItemName
from evidencesync.files import disk
from evidencesync.vault import stated
from evidencesync.vault.heads import record_heads, require_as_stated, state_head
from evidencesync.vault.index.index import rebuild
from evidencesync.vault.layout import STATED_HEADS
from evidencesync.vault.ledger import ChainHead
from evidencesync.vault.stated import OWN, StatedHead, stated_heads, stated_of
from evidencesync.vault.vault import Vault
from tests.unit.vault.acquiring import Acquirer, item_name, new_signer, new_vault

NAME = item_name()
OTHER = item_name(item="4-b")
FEW = 5
MANY = 3 * FEW


@pytest.fixture(autouse=True)
def few_records_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stated, "_MOST_NOT_INDEXED", FEW)


def fill(vault: Vault, count: int = MANY, first: int = 1) -> None:
    for number in range(first, first + count):
        state_head(vault, NAME, ChainHead(number, f"{number:064x}"))


def index_of(vault: Vault) -> Path:
    return vault.layout.index / STATED_HEADS


def by_the_records(vault: Vault, place: str) -> object:
    return stated_heads(vault.ledger)[0].get(place, set())


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the records that are read."""
    names: list[str] = []

    def load(folder: int, name: str, limit: int) -> bytes | None:
        names.append(name)
        return real(folder, name, limit)

    real = disk.load_file
    monkeypatch.setattr(stated, "load_file", load)
    return names


@pytest.mark.parametrize("name", [NAME, OTHER], ids=["stated often", "never stated"])
def test_only_what_was_stated_since_is_read_again(vault: Vault, reads: list[str], name: ItemName) -> None:
    fill(vault)
    stated_of(vault, NAME.place)
    assert len(reads) > MANY
    fill(vault, 2, MANY + 1)
    reads.clear()
    found = stated_of(vault, name.place)
    assert reads == [f"{MANY + number:04d}-heads.json" for number in (1, 2, 3)]  # the last that is indexed, and two new ones
    assert found == by_the_records(vault, name.place)


def test_a_contradicted_statement_counts_through_every_index(vault: Vault) -> None:
    fill(vault, FEW)
    for highest in (2, 9, 4):
        fill(vault, MANY, highest)
        assert stated_of(vault, NAME.place) == by_the_records(vault, NAME.place)
        assert index_of(vault).exists()
    assert len(stated_of(vault, NAME.place)) > FEW


def forged(vault: Vault, folder: Path) -> bytes:
    data = index_of(vault).read_bytes()
    return data.replace(f"{MANY} {MANY:064x}".encode(), f"1 {1:064x}".encode())


def without_signature(vault: Vault, folder: Path) -> bytes:
    return index_of(vault).read_bytes().partition(b"\n")[0] + b"\n"


def of_another_vault(vault: Vault, folder: Path) -> bytes:
    other = new_vault(folder / "other", new_signer())
    fill(other, MANY, 1000)
    stated_of(other, NAME.place)
    return index_of(other).read_bytes()


def signed_by_another_key(vault: Vault, folder: Path) -> bytes:
    document = forged(vault, folder).partition(b"\n")[0] + b"\n"
    return document + sign_document(new_signer(), "index@evidencesync", sha512_of(document))


def no_index(vault: Vault, folder: Path) -> bytes:
    return b""


def garbage(vault: Vault, folder: Path) -> bytes:
    return b"{}\n" * 3


@pytest.mark.parametrize("lie", [forged, signed_by_another_key, without_signature, of_another_vault, no_index, garbage])
def test_an_index_that_lies_is_as_good_as_none(vault: Vault, tmp_path: Path, lie: Callable[[Vault, Path], bytes]) -> None:
    fill(vault)
    stated_of(vault, NAME.place)
    index_of(vault).chmod(0o600)
    index_of(vault).write_bytes(lie(vault, tmp_path))
    assert stated_of(vault, NAME.place) == by_the_records(vault, NAME.place)


def test_an_old_index_of_the_vault_hides_nothing_that_was_stated_since(vault: Vault, tmp_path: Path) -> None:
    fill(vault)
    stated_of(vault, NAME.place)
    shutil.copy(index_of(vault), tmp_path / "old")
    fill(vault, MANY, MANY + 1)
    stated_of(vault, NAME.place)
    shutil.copy(tmp_path / "old", index_of(vault))
    assert stated_of(vault, NAME.place) == by_the_records(vault, NAME.place)


def test_an_index_says_nothing_of_a_chain_with_another_record_in_that_place(vault: Vault, tmp_path: Path) -> None:
    """The vault was put back to an older copy, and went on; only the index is the later one's."""
    shutil.copytree(vault.layout.custody, tmp_path / "custody")
    fill(vault)
    stated_of(vault, NAME.place)
    shutil.rmtree(vault.layout.custody)
    (tmp_path / "custody").rename(vault.layout.custody)
    vault = Vault.open(vault.layout.root)
    assert stated_of(vault, NAME.place) == set()
    for number in range(1, MANY + 1):
        state_head(vault, OTHER, ChainHead(number, f"{number:064x}"))
    assert stated_of(vault, NAME.place) == set()
    assert len(stated_of(vault, OTHER.place)) == 1


@pytest.mark.parametrize("which", [FEW, MANY - 1])
@pytest.mark.parametrize("damage", ["another number", "its end"])
def test_a_record_that_was_damaged_for_a_while_leaves_nothing_in_the_index(vault: Vault, damage: str, which: int) -> None:
    fill(vault)
    broken = sorted(vault.layout.custody.glob("*-heads.json"))[which]
    before = broken.read_bytes()
    broken.chmod(0o600)
    broken.write_bytes(before.replace(f'"{which + 1} '.encode(), b'"999 ') if damage == "another number" else before[:-5])
    assert stated_of(vault, NAME.place) != {StatedHead(MANY, f"{MANY:064x}", OWN)} or damage == "its end"
    broken.write_bytes(before)
    for count in (0, 1, MANY):
        fill(vault, count, MANY + count)
        assert stated_of(vault, NAME.place) == by_the_records(vault, NAME.place)


def test_an_item_that_was_put_back_is_refused_with_and_without_an_index(acquirer: Acquirer, tmp_path: Path) -> None:
    vault, item = acquirer.vault, acquirer.item()
    acquirer.acquire({b"x": b"1"})
    state_head(vault, item.name, item.ledger.head())
    shutil.copytree(item.layout.root, tmp_path / "backup")
    acquirer.acquire({b"x": b"2"})
    state_head(vault, item.name, item.ledger.head())
    for number in range(1, MANY):
        state_head(vault, OTHER, ChainHead(number, f"{number:064x}"))
    require_as_stated(vault, item.name, item.ledger)
    shutil.rmtree(item.layout.root)
    (tmp_path / "backup").rename(item.layout.root)
    for _ in range(2):
        with pytest.raises(ChainError, match="record 4"):
            require_as_stated(vault, item.name, item.ledger)
        index_of(vault).unlink()


def test_what_cannot_be_written_changes_nothing(vault: Vault) -> None:
    fill(vault)
    (vault.layout.index / STATED_HEADS).mkdir(parents=True)
    assert stated_of(vault, NAME.place) == by_the_records(vault, NAME.place)


def test_an_index_that_a_killed_writer_left_is_replaced(vault: Vault) -> None:
    fill(vault)
    vault.layout.index.mkdir(exist_ok=True)
    (vault.layout.index / f".new-{STATED_HEADS}").write_bytes(b"half")
    stated_of(vault, NAME.place)
    assert [one.name for one in vault.layout.index.iterdir()] == [STATED_HEADS]


def test_a_new_index_of_the_vault_begins_without_it(acquirer: Acquirer) -> None:
    acquirer.acquire({b"x": b"1"})
    vault = acquirer.vault
    fill(vault)
    stated_of(vault, NAME.place)
    rebuild(vault.layout, vault.index())
    assert not index_of(vault).exists()
    record_heads(vault)
    assert stated_of(vault, NAME.place) == by_the_records(vault, NAME.place)


@pytest.mark.parametrize("damage", ["one digit", "the end"])
def test_a_damaged_chain_is_not_stated_to_be_right_and_is_good_again_when_it_is_repaired(acquirer: Acquirer, damage: str) -> None:
    acquirer.acquire({b"file": b"1"})
    vault, item = acquirer.vault, acquirer.item()
    state_head(vault, item.name, item.ledger.head())
    last = item.layout.custody / "0002-received.json"
    files = {file: file.read_bytes() for file in (last, last.with_name(last.name + ".sig"))}
    for file in files:
        file.unlink()
    if damage == "one digit":
        key, digit = b'"receipt_sha256": "', files[last].partition(b'"receipt_sha256": "')[2][:1]
        last.write_bytes(files[last].replace(key + digit, key + (b"0" if digit != b"0" else b"1")))
        last.with_name(last.name + ".sig").write_bytes(files[last.with_name(last.name + ".sig")])
    assert record_heads(vault) == 0
    for file, data in files.items():
        file.unlink(missing_ok=True)
        file.write_bytes(data)
    assert record_heads(vault) == 1
    require_as_stated(vault, item.name, item.ledger)


def test_a_damaged_record_of_which_nothing_was_stated_yet_is_not_stated(acquirer: Acquirer) -> None:
    acquirer.acquire({b"file": b"1"})
    (acquirer.item().layout.custody / "0002-received.json.sig").chmod(0o600)
    (acquirer.item().layout.custody / "0002-received.json.sig").write_bytes(b"no signature")
    assert record_heads(acquirer.vault) == 0
