from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from evidencesync.custody.rule_of_two import NeedsTwo
from evidencesync.errors import (
    ConfigurationError,
    EvidenceSyncError,
    InvalidNameError,
    LockedError,
    MalformedDocumentError,
    MissingOrExtraError,
    NameClashError,
    NoSpaceError,
    NotThereError,
    SigningKeyError,
    StorageError,
    UsageError,
    VaultNotFoundError,
)
from evidencesync.files.disk import locked_folder, store_new_file
from evidencesync.files.folders import names_in
from evidencesync.vault.create import create_vault, probe_file_system
from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.settings import FileSystem, Policy, encode_settings, parse_settings
from evidencesync.vault.vault import Vault
from evidencesync.vault.writer import FileSystemKind
from tests.unit.vault.acquiring import item_name, new_signer


def test_a_new_vault_opens_with_its_settings_and_holds_nothing(vault: Vault) -> None:
    opened = Vault.open(vault.layout.root)
    assert opened.settings == vault.settings
    assert opened.settings.name == "Lab"
    assert opened.settings.policy.lookup == "case"
    assert list(opened.items()) == []


def _fill_up_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [writes]

    def write(fd: int, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.write(fd, data)

    monkeypatch.setattr("evidencesync.files.disk.write_all", write)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_vault_that_could_not_be_made_whole_leaves_nothing_behind(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "vault"
    if is_there:
        place.mkdir()
    hints = []
    for writes in range(100):
        with monkeypatch.context() as patch:
            _fill_up_after(writes, patch)
            try:
                create_vault(place, "Lab")
                break
            except NoSpaceError as error:
                hints.append(error.hint or "")
        assert os.listdir(tmp_path) == (["vault"] if is_there else []), writes
        assert not is_there or os.listdir(place) == [], writes
    assert len(hints) >= 6
    assert all("Nothing was made" in hint for hint in hints)
    assert Vault.open(place).settings.name == "Lab"


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("call", ["unlink", "rmdir", "listdir", "open"])
def test_whatever_call_fails_once_nothing_of_a_vault_is_left(
    call: str, is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = 0
    for nth in range(1, 100):
        place = tmp_path / f"vault{nth}"
        if is_there:
            place.mkdir()
        error: EvidenceSyncError | None = None
        with monkeypatch.context() as patch:
            fired = _fail_once(call, nth, place, patch)
            try:
                create_vault(place, "Lab")
            except StorageError as raised:
                error = raised
        if error is None:
            assert Vault.open(place).settings.name == "Lab"
        else:
            failed += 1
            left = sorted(place.rglob("*")) if place.exists() else []
            assert (place.exists(), left) == (is_there, []), nth
            assert "nothing was " in (error.hint or "").lower()
        if not fired:
            break
    assert failed > 0
    assert nth < 99


def _fail_once(call: str, nth: int, place: Path, patch: pytest.MonkeyPatch) -> list[int]:
    """The n-th call about something below a place is refused by the disk; what is returned is not empty when it was."""
    met, fired, real = [0], list[int](), getattr(os, call)

    def called(path: int | str, *more: object, dir_fd: int | None = None) -> object:
        fd = path if isinstance(path, int) else dir_fd
        where = os.fspath(path) if fd is None else os.readlink(f"/proc/self/fd/{fd}")  # type: ignore[arg-type]
        if where.startswith(str(place)):
            met[0] += 1
            if met[0] == nth:
                fired.append(nth)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *more) if dir_fd is None else real(path, *more, dir_fd=dir_fd)

    patch.setattr(os, call, called)
    return fired


def test_what_the_disk_does_not_let_go_of_a_vault_is_said_and_the_rest_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, unlink = tmp_path / "vault", os.unlink

    def refused(path: str, **more: int) -> None:
        if path == "vault_key":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        unlink(path, **more)

    with monkeypatch.context() as patch, pytest.raises(NoSpaceError) as caught:
        _fill_up_after(6, patch)
        patch.setattr(os, "unlink", refused)
        create_vault(place, "Lab")
    assert f"remove what was begun in {place}" in (caught.value.hint or "")
    assert "Nothing was made" not in (caught.value.hint or "")
    assert os.listdir(place) == ["vault_key"]


def test_whenever_it_is_stopped_there_is_a_whole_vault_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vault.toml makes a folder a vault: half of it would be called a damaged vault, and no init would begin there again."""
    settings, seen = tmp_path / "vault" / "vault.toml", list[bool]()

    def looking(call: str) -> None:
        real = getattr(os, call)

        def called(*given: object, **named: object) -> object:
            done = real(*given, **named)
            seen.append(settings.exists())
            if settings.exists():
                parse_settings(settings.read_bytes())
            return done

        monkeypatch.setattr(os, call, called)

    for call in ("open", "write", "fchmod", "fsync", "rename"):
        looking(call)
    create_vault(settings.parent, "Lab")
    assert seen.count(False) > 10
    assert seen[-1]


@pytest.mark.parametrize(
    "missing", [["cases", "custody", "index", "trusted_signers", "revoked_keys", "vault_key.pub"], ["index", "custody/*"], []]
)
def test_what_a_killed_init_has_left_is_replaced_and_a_vault_without_its_settings_is_not(
    missing: list[str], vault: Vault, tmp_path: Path
) -> None:
    place = vault.layout.root
    for name in ("vault.toml", *missing):
        for path in place.glob(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (place / ".probe-0123456789abcdef").mkdir()
    (place / ".new-vault.toml").touch()
    again = create_vault(place, "Lab")
    assert again.settings.id != vault.settings.id
    assert not list(place.glob(".*"))

    (place / "vault.toml").unlink()
    (place / "custody" / "0002-trust-changed.json").touch()
    before = sorted(place.rglob("*"))
    with pytest.raises(UsageError) as caught:
        create_vault(place, "Lab")
    assert caught.value.hint == "A vault needs a folder of its own."
    assert sorted(place.rglob("*")) == before


def _killed_at(event: int, place: Path, make: Callable[[Path], object]) -> bool:
    """Makes a vault in a process that is killed before its nth change of the disk. False where it had ended by then."""
    child = os.fork()
    if not child:
        left = [event]

        def count(name: str, _: object) -> None:
            left[0] -= name in {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.chmod", "os.utime"}
            if left[0] < 0:
                left[0] = 1 << 30  # the kill is an event, too
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        make(place)
        os._exit(0)  # noqa: TID251 - the end of a fork: nothing of pytest may run in it
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "records"), [((), 1), (("seal", "trust"), 4)])
def test_wherever_an_init_is_killed_the_next_one_makes_the_whole_vault(
    tmp_path: Path, rule: tuple[NeedsTwo, ...], records: int
) -> None:
    place, event = tmp_path / "vault", 0
    people = [(new_signer().public_key, name) for name in ("ana", "ben")]
    made = partial(create_vault, name="Lab", trusted=people, two_person=rule)
    while _killed_at(event, place, made):
        if not (place / "vault.toml").exists():
            made(place)
        vault = Vault.open(place)
        assert (vault.ledger.head().sequence, vault.trust.rule(), vault.settings.two_person) == (records, rule, rule or None)
        assert not list(place.glob(".*"))
        shutil.rmtree(place)
        event += 2
    assert event > 25


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data,
        lambda data: b"x" + data,
        lambda data: data.replace(b"vault/1", b"vault/2"),
        lambda data: data + b'note = "x',
        lambda data: data[:60],
        lambda _: b"",
    ],
)
def test_a_vault_and_a_damaged_one_are_never_taken_for_a_half_made_one(change: Callable[[bytes], bytes], vault: Vault) -> None:
    settings = vault.layout.root / "vault.toml"
    settings.write_bytes(changed := change(settings.read_bytes()))
    before = sorted(vault.layout.root.rglob("*"))
    with pytest.raises(UsageError, match="not empty") as caught:
        create_vault(vault.layout.root, "Lab")
    assert "There is a vault already" in (caught.value.hint or "")
    assert settings.read_bytes() == changed
    assert sorted(vault.layout.root.rglob("*")) == before


@pytest.mark.parametrize("names", [["vault_key"], ["vault_key", "trusted_signers"], ["trusted_signers"], ["index"], None])
def test_a_key_from_a_backup_or_a_vault_that_lost_its_settings_is_left_to_a_person(names: list[str] | None, vault: Vault) -> None:
    """They look like what an init has left, but for the draft of vault.toml that it makes first."""
    place = vault.layout.root
    for path in place.iterdir():
        if path.name == "vault.toml" or (names is not None and path.name not in names):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = sorted(place.rglob("*"))
    with pytest.raises(UsageError, match="not empty") as caught:
        create_vault(place, "Lab")
    assert "An init that did not end" in (caught.value.hint or "")
    assert sorted(place.rglob("*")) == before


def test_what_lies_in_the_index_is_not_removed_with_a_half_made_vault(vault: Vault) -> None:
    place = vault.layout.root
    (place / "vault.toml").rename(place / ".new-vault.toml")
    (place / "index" / "notes.txt").touch()
    with pytest.raises(UsageError):
        create_vault(place, "Lab")
    assert (place / "index" / "notes.txt").exists()


def test_a_vault_that_another_process_is_making_is_not_taken_for_a_half_made_one(tmp_path: Path) -> None:
    place = tmp_path / "vault"
    place.mkdir()
    (place / ".new-vault.toml").touch()
    with locked_folder(place, "it"), pytest.raises(LockedError):
        create_vault(place, "Lab")
    assert os.listdir(place) == [".new-vault.toml"]


def test_where_locks_do_not_hold_between_machines_a_half_made_vault_is_left_to_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "vault"
    place.mkdir()
    (place / ".new-vault.toml").touch()
    monkeypatch.setattr("evidencesync.vault.create.kind_of_file_system", lambda _: FileSystemKind("nfs", has_real_locks=False))
    with pytest.raises(UsageError) as caught:
        create_vault(place, "Lab")
    assert "An init that did not end" in (caught.value.hint or "")
    assert os.listdir(place) == [".new-vault.toml"]


def test_of_two_who_make_a_vault_in_one_folder_the_later_takes_nothing_from_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "vault"
    first: list[Vault] = []

    def come_in_between(root: int) -> FileSystem:
        monkeypatch.undo()
        place.rename(tmp_path / "aside")
        first.append(create_vault(place, "First"))
        for name in os.listdir(place):
            (place / name).rename(tmp_path / "aside" / name)
        place.rmdir()
        (tmp_path / "aside").rename(place)
        return probe_file_system(root)

    monkeypatch.setattr("evidencesync.vault.create.probe_file_system", come_in_between)
    with pytest.raises(StorageError):
        create_vault(place, "Second")
    assert Vault.open(place).settings == first[0].settings


def test_a_file_system_that_lets_others_read_the_key_is_no_place_for_a_vault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_modes(fd: int, name: str, data: bytes, *, mode: int) -> None:
        store_new_file(fd, name, data, mode=mode | 0o777)

    monkeypatch.setattr("evidencesync.vault.key_files.store_new_file", without_modes)
    with pytest.raises(SigningKeyError, match="0777") as caught:
        create_vault(tmp_path / "vault", "Lab")
    assert "umask=077" in (caught.value.hint or "")
    assert os.listdir(tmp_path) == []


def test_a_file_system_that_changes_capital_letters_is_no_place_for_a_vault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evidencesync.files.kept_names.names_in", lambda fd: [name.lower() for name in names_in(fd)])
    with pytest.raises(NameClashError, match="capital letters"):
        create_vault(tmp_path / "vault", "Lab")
    assert os.listdir(tmp_path) == []


def test_the_private_key_is_for_the_owner_alone_and_its_public_part_fits(vault: Vault) -> None:
    root = vault.layout.root
    assert stat.S_IMODE((root / "vault_key").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "vault_key.pub").stat().st_mode) == 0o644
    assert (root / "vault_key.pub").read_text().startswith(vault.signer.public_key.line())
    assert vault.signer.public_key.fingerprint == vault.settings.key


def test_ssh_keygen_reads_the_key_and_verifies_the_first_record(vault: Vault, require_program: Callable[[str], str]) -> None:
    root = vault.layout.root
    keygen = require_program("ssh-keygen")
    shown = subprocess.run([keygen, "-l", "-f", root / "vault_key"], check=True, capture_output=True, text=True).stdout
    assert vault.settings.key in shown
    record = root / "custody" / "0001-made.json"
    verify = [keygen, "-Y", "verify", "-f", root / "trusted_signers", "-r", root / "revoked_keys", "-I", "vault"]
    arguments = [*verify, "-n", "custody@evidencesync", "-s", f"{record}.sig"]
    subprocess.run([str(part) for part in arguments], input=record.read_bytes(), check=True, capture_output=True)


def test_the_vault_key_line_is_first_and_the_examiner_is_trusted(vault: Vault, examiner: VaultSigner) -> None:
    signers = vault.trust.signers()
    assert [known.signer.principals for known in signers] == [("vault",), ("ana",)]
    trust = vault.load_trust()
    for namespace in ("session@evidencesync", "manifest@evidencesync", "custody@evidencesync"):
        trust.check_key("ana", examiner.public_key, namespace, 10**18)


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        create_vault(tmp_path, "Lab")
    assert os.listdir(tmp_path) == ["note"]


def test_an_empty_folder_can_become_a_vault_but_not_a_file_or_a_missing_parent(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    create_vault(tmp_path / "empty", "Lab", policy=Policy(lookup="item"))
    assert Vault.open(tmp_path / "empty").settings.policy.lookup == "item"
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    for name in ("file", "link", "fifo"):
        with pytest.raises(UsageError, match="is no folder"):
            create_vault(tmp_path / name, "Lab")
    with pytest.raises(UsageError):
        create_vault(tmp_path / "no" / "vault", "Lab")


def test_a_name_that_could_steer_a_terminal_is_refused(tmp_path: Path) -> None:
    for name in ("L\x1bab", "", "a" * 255):
        with pytest.raises(InvalidNameError, match="the name of a vault") as refused:
            create_vault(tmp_path / "vault", name)
        assert "--name" in (refused.value.hint or "")
    assert not (tmp_path / "vault").exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "file"])
def test_what_is_not_a_vault_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "place"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("")
    with pytest.raises(VaultNotFoundError):
        Vault.open(path)


def test_a_vault_without_its_last_file_is_none_and_one_with_cases_lacks_it(vault: Vault) -> None:
    (vault.layout.root / "vault.toml").unlink()
    with pytest.raises(VaultNotFoundError):
        Vault.open(vault.layout.root)
    (vault.layout.cases / "2024-017").mkdir()
    with pytest.raises(MissingOrExtraError, match="is missing in the vault"):
        Vault.open(vault.layout.root)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"evidencesync-vault/1", b"evidencesync-vault"),
        (b"\n[policy]", b"\n\xef\xbb\xbf[policy]"),
        (b"# An evidencesync vault.", b"\0# An evidencesync vault."),
        (b'lookup = "case"', b'lookup = "everything"'),
        (b'lookup = "case"', b'lookup = "case"\nsurprise = 1'),
        (b"\n[policy]", b"\n[policy"),
        (b'id = "', b'id = "z'),
        (b"Lab", b"L\xffb"),
    ],
)
def test_settings_that_are_none_are_a_malformed_document_as_verify_calls_them(vault: Vault, old: bytes, new: bytes) -> None:
    path = vault.layout.root / "vault.toml"
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(MalformedDocumentError) as refused:
        Vault.open(vault.layout.root)
    assert refused.value.exit_code == 32
    assert "vault.toml" in (refused.value.hint or "")


def test_settings_of_a_later_version_are_called_that(vault: Vault) -> None:
    path = vault.layout.root / "vault.toml"
    path.write_bytes(path.read_bytes().replace(b"evidencesync-vault/1", b"evidencesync-vault/2"))
    with pytest.raises(ConfigurationError) as refused:
        Vault.open(vault.layout.root)
    assert "version" in (refused.value.hint or "")


def test_settings_come_back_as_they_were_written(vault: Vault) -> None:
    assert parse_settings(encode_settings(vault.settings)) == vault.settings


def test_a_key_that_others_can_read_is_refused(vault: Vault) -> None:
    (vault.layout.root / "vault_key").chmod(0o640)
    with pytest.raises(SigningKeyError, match="others can read"):
        _ = Vault.open(vault.layout.root).signer


@pytest.mark.parametrize("kind", ["another", "missing", "nonsense"])
def test_another_key_in_place_of_the_vaults_is_refused(vault: Vault, tmp_path: Path, kind: str) -> None:
    path = vault.layout.root / "vault_key"
    if kind == "another":
        path.write_bytes((create_vault(tmp_path / "other", "Other").layout.root / "vault_key").read_bytes())
    elif kind == "missing":
        path.unlink()
    else:
        path.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(SigningKeyError):
        _ = Vault.open(vault.layout.root).signer


def test_an_item_that_was_never_made_is_not_there_and_its_empty_folders_are_no_case(vault: Vault) -> None:
    with pytest.raises(NotThereError):
        vault.item(item_name())
    item = vault.item(item_name(), create=True)
    assert item.name == vault.item(item_name()).name
    assert list(vault.items()) == []
    files = [path for path in vault.layout.cases.rglob("*") if not path.is_dir()]
    assert files == []


def test_the_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        found = probe_file_system(fd)
    finally:
        os.close(fd)
    assert os.listdir(tmp_path) == []
    assert found.name_bytes <= 255
    assert found.time_granularity_ns >= 1


def test_the_vault_signs_what_its_public_key_verifies() -> None:
    signer = new_signer()
    data = hashlib.sha512(b"x").digest()
    signer.public_key.verify(signer.sign(data), data)
