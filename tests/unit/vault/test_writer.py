"""One machine writes where locks do not hold between machines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.errors import OtherWriterError
from evidencesync.exit_codes import ExitCode
from evidencesync.vault import writer
from evidencesync.vault.heads import record_heads
from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.resume.left_sessions import find_abandoned, remove_abandoned
from evidencesync.vault.settings import encode_settings, parse_settings
from evidencesync.vault.vault import Vault
from evidencesync.vault.writer import REAL_LOCKS, kind_of_file_system, this_machine
from evidencesync.verify.audit import audit_vault
from tests.unit.vault.acquiring import Acquirer, new_signer, new_vault

NFS = 0x6969
EXT4 = 0xEF53
NOW_NS = 1_700_000_000_000_000_000


class World:
    """The file system that vaults lie on, and the machine that works there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.magic: int | None = NFS
        self.host = "a"
        monkeypatch.setattr(writer, "file_system_magic", lambda _: self.magic)
        monkeypatch.setattr(writer, "_read_id", lambda _: self.host * 32)
        monkeypatch.setattr(writer, "_is_container", lambda: False)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def files_of(vault: Vault) -> dict[str, bytes]:
    root = vault.layout.root
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else b"" for path in root.rglob("*")}


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(OtherWriterError) as caught:
        work()
    assert caught.value.exit_code is ExitCode.LOCKED
    assert "vault writer VAULT --take" in (caught.value.hint or "")
    return caught.value.message


def writers(acquirer: Acquirer) -> dict[str, Callable[[], object]]:
    """Everything that writes to a vault."""
    vault = acquirer.vault
    return {
        "push": lambda: acquirer.acquire({b"file": b"2"}),
        "a new item": lambda: vault.item(type(acquirer.name)(acquirer.name.case, type(acquirer.name.item)("new")), create=True),
        "trust add": lambda: vault.trust.add(new_signer().public_key, "ben"),
        "trust retire": lambda: vault.trust.retire(acquirer.examiner.public_key),
        "heads": lambda: record_heads(vault),
        "clean": lambda: remove_abandoned(vault.layout, find_abandoned(vault.layout)),
    }


def test_a_vault_on_a_network_file_system_has_one_writing_machine(world: World, tmp_path: Path, examiner: VaultSigner) -> None:
    vault = new_vault(tmp_path / "vault", examiner)
    assert vault.settings.writer is not None
    assert vault.settings.writer.machine == this_machine().id
    acquirer = Acquirer(vault, examiner)
    acquirer.acquire({b"file": b"1"})
    acquirer.stage_only({b"file": b"left behind"}, "a" * 32)
    world.host = "b"
    before = files_of(vault)
    for what, work in writers(acquirer).items():
        assert "the machine that writes" in refused(work), what
    assert files_of(vault) == before
    verdict = audit_vault(vault.layout.root, now_ns=NOW_NS)  # reading is free
    assert [one.slug for one in verdict.findings if one.severity == "error"] == []


def test_a_vault_on_a_local_disk_needs_none(world: World, tmp_path: Path, examiner: VaultSigner) -> None:
    world.magic = EXT4
    vault = new_vault(tmp_path / "vault", examiner)
    assert vault.settings.writer is None
    Acquirer(vault, examiner).acquire({b"file": b"1"})
    world.host = "b"
    Acquirer(vault, examiner).acquire({b"file": b"2"})
    assert b"writer" not in (tmp_path / "vault" / "vault.toml").read_bytes()


@pytest.mark.parametrize(
    "magic", [NFS, 0x65735546, 0xFE534D42, 0xFF534D42, 0x0BD00BD0, 0x00C36400, 0x01021997, 0x47504653, 0x1, None]
)
def test_a_vault_that_was_moved_to_one_is_written_by_nobody_before_it_is_taken(
    world: World, tmp_path: Path, examiner: VaultSigner, magic: int | None
) -> None:
    world.magic = EXT4
    acquirer = Acquirer(new_vault(tmp_path / "vault", examiner), examiner)
    acquirer.acquire({b"file": b"1"})
    world.magic = magic
    before = files_of(acquirer.vault)
    for what, work in writers(acquirer).items():
        assert "names no writing machine" in refused(work), what
    assert files_of(acquirer.vault) == before
    acquirer.vault.trust.take_writing(this_machine())
    acquirer.acquire({b"file": b"2"})


def test_a_vault_that_was_moved_to_a_local_disk_keeps_its_writing_machine(
    world: World, tmp_path: Path, examiner: VaultSigner
) -> None:
    """The disk may be the server's, and others may still reach it through the network."""
    acquirer = Acquirer(new_vault(tmp_path / "vault", examiner), examiner)
    world.magic = EXT4
    acquirer.acquire({b"file": b"1"})
    world.host = "b"
    refused(lambda: acquirer.acquire({b"file": b"2"}))
    acquirer.vault.trust.take_writing(this_machine())
    acquirer.acquire({b"file": b"2"})
    world.host = "a"
    refused(lambda: acquirer.acquire({b"file": b"3"}))


def test_a_session_that_runs_while_the_writing_is_taken_publishes_nothing_and_keeps_what_it_has(
    world: World, tmp_path: Path, examiner: VaultSigner
) -> None:
    acquirer = Acquirer(new_vault(tmp_path / "vault", examiner), examiner)

    class Slow(Acquirer):
        """Somebody takes the writing while the examiner signs."""

        def documents(self, *arguments: object) -> dict[str, bytes]:
            world.host = "b"
            Vault.open(tmp_path / "vault").trust.take_writing(this_machine())
            world.host = "a"
            return super().documents(*arguments)  # type: ignore[arg-type]

    item = acquirer.item().layout
    refused(lambda: Slow(acquirer.vault, examiner).acquire({b"file": b"1"}, session="a" * 32))
    assert (os.listdir(item.acquisitions), os.listdir(item.incoming)) == ([], ["a" * 32])
    world.host = "b"
    acquirer.acquire({b"file": b"1"})


def test_taking_is_recorded_and_changes_nothing_else_in_the_settings(world: World, tmp_path: Path, examiner: VaultSigner) -> None:
    vault = new_vault(tmp_path / "vault", examiner)
    file = tmp_path / "vault" / "vault.toml"
    text = "# kept by hand\n" + file.read_text().replace('lookup = "case"', 'lookup = "vault"  # on purpose')
    file.chmod(0o644)
    file.write_text(text)
    for host in "bcb":
        world.host = host
        vault.trust.take_writing(this_machine())
    after = file.read_text()
    assert after.partition("[writer]")[0] == text.partition("[writer]")[0]
    assert after.count("[writer]") == 1
    settings = Vault.open(vault.layout.root).settings
    assert (settings.policy.lookup, settings.writer is not None and settings.writer.machine) == ("vault", this_machine().id)
    last = vault.ledger.last("trust-changed")
    assert last is not None
    assert last.record.details["action"] == "writer-taken"
    assert last.record.details["machine"] == this_machine().id
    assert not [name for name in os.listdir(vault.layout.root) + os.listdir(vault.layout.custody) if name.startswith(".")]
    verdict = audit_vault(vault.layout.root, now_ns=NOW_NS)
    assert [one.slug for one in verdict.findings if one.severity == "error"] == []


def test_settings_of_earlier_versions_name_no_machine(world: World, tmp_path: Path, examiner: VaultSigner) -> None:
    settings = new_vault(tmp_path / "vault", examiner).settings
    assert parse_settings(encode_settings(settings)) == settings
    assert parse_settings(b"\xef\xbb\xbf" + encode_settings(settings).replace(b"\n", b"\r\n")) == settings  # edited on Windows
    old = encode_settings(settings).partition(b"\n[writer]")[0]
    assert parse_settings(old).writer is None


# --- Machines ----------------------------------------------------------------------------------------------------------------


def identity(monkeypatch: pytest.MonkeyPatch, ids: dict[str, str], name: str = "host", *, container: bool = False) -> str:
    monkeypatch.setattr(writer, "_read_id", ids.get)
    monkeypatch.setattr(writer, "_is_container", lambda: container)
    monkeypatch.setattr("evidencesync.vault.writer.os.uname", lambda: os.uname_result(("Linux", name, "6", "1", "x86_64")))
    return this_machine().id


ID, BOOT = "/etc/machine-id", "/proc/sys/kernel/random/boot_id"


def test_a_machine_is_itself_after_a_restart_and_no_clone_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first = identity(monkeypatch, {ID: "1" * 32, BOOT: "b" * 32})
    assert identity(monkeypatch, {ID: "1" * 32, BOOT: "c" * 32}) == first
    assert identity(monkeypatch, {"/var/lib/dbus/machine-id": "1" * 32}) == first
    assert identity(monkeypatch, {ID: "2" * 32}) != first
    assert identity(monkeypatch, {ID: "1" * 32}, "clone") != first


def test_a_container_is_its_kernel_whatever_its_image_has_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    first = identity(monkeypatch, {ID: "1" * 32, BOOT: "b" * 32}, "c1", container=True)
    assert identity(monkeypatch, {ID: "2" * 32, BOOT: "b" * 32}, "c2", container=True) == first
    assert identity(monkeypatch, {ID: "1" * 32, BOOT: "d" * 32}, "c1", container=True) != first


def test_without_any_id_two_hosts_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    assert identity(monkeypatch, {}, "one") != identity(monkeypatch, {}, "two")


@pytest.mark.parametrize("text", [b"", b"uninitialized\n", b"0" * 32, b"xyz", b"\xff" * 32])
def test_an_id_that_is_none_is_not_taken_for_one(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "machine-id").write_bytes(text)
    assert writer._read_id(str(tmp_path / "machine-id")) is None
    assert writer._read_id(str(tmp_path / "nothing")) is None


def test_file_systems_are_known_by_what_the_kernel_says(tmp_path: Path) -> None:
    for path, real in ((tmp_path, True), (Path("/dev/shm"), True), (Path("/proc"), False)):
        fd = os.open(path, os.O_RDONLY)
        try:
            assert kind_of_file_system(fd).has_real_locks is real, kind_of_file_system(fd)
        finally:
            os.close(fd)
    assert NFS not in REAL_LOCKS
