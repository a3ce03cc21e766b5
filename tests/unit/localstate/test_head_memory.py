"""What this machine remembers of vaults: only ever further, by several processes, and never quietly nothing."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from evidencesync import outside
from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.consistency import ChainComparison, KnownChain
from evidencesync.errors import ForkedError, NoRoomToRememberError, NotThereError, RememberedHeadsError, UsageError
from evidencesync.exit_codes import ExitCode
from evidencesync.localstate.heads import HeadMemory, RememberedHead, state_folder
from tests.support.file_systems import mounted

VAULT = "ab" * 16
ITEM = ChainSubject(VAULT, "2026/11", "E 1")
OWN = ChainSubject(VAULT)
KEY = "SHA256:" + "A" * 43
SEEN = "2026-01-02T03:04:05.000000Z"


def digest(number: int, branch: str = "a") -> str:
    return f"{number:02x}{branch}".ljust(64, "0")


def chain(last: int, branch: str = "a", first: int = 1) -> KnownChain:
    return KnownChain(last, tuple(digest(number, branch) for number in range(first, last + 1)))


def seen(last: int, branch: str = "a", subject: ChainSubject = ITEM, key: str = KEY) -> RememberedHead:
    return RememberedHead(subject, key, chain(last, branch), SEEN)


def test_what_was_seen_is_recalled_and_only_that(tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path)
    assert memory.recall(ITEM) is None
    memory.remember([seen(4), seen(2, subject=OWN)])
    assert memory.recall(ITEM) == seen(4)
    assert memory.recall(ChainSubject(VAULT, "2026/11", "E 2")) is None
    assert memory.recall(ChainSubject("cd" * 16, "2026/11", "E 1")) is None
    assert sorted(one.chain.sequence for one in memory.recall_vault(VAULT)) == [2, 4]
    assert memory.vaults() == [VAULT]


def test_what_a_file_manager_leaves_in_it_is_no_damage(tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path)
    memory.remember([seen(4)])
    for folder in (memory.folder, memory.folder / VAULT):
        (folder / ".DS_Store").write_bytes(b"x")
    assert memory.recall_vault(VAULT) == [seen(4)]
    assert memory.vaults() == [VAULT]


def test_what_is_remembered_only_goes_further(tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path)
    for last in (4, 2, 6, 5):
        memory.remember([seen(last)])
    assert memory.recall(ITEM) == seen(6)


def test_another_history_is_not_remembered_over_the_first(tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path)
    memory.remember([seen(4)])
    for other in (seen(4, "b"), seen(6, "b"), seen(2, "b"), seen(6, key="SHA256:" + "B" * 43)):
        with pytest.raises(ForkedError):
            memory.remember([other])
    assert memory.recall(ITEM) == seen(4)


def test_only_the_last_records_are_remembered(tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path)
    digests = tuple(f"{number:064x}" for number in range(1, 1001))
    memory.remember([RememberedHead(ITEM, KEY, KnownChain(1000, digests), SEEN)])
    kept = memory.recall(ITEM)
    assert kept is not None
    assert (kept.chain.sequence, kept.chain.digests) == (1000, digests[-256:])


def test_many_at_once_leave_the_furthest(tmp_path: Path) -> None:
    def remember(last: int) -> None:
        HeadMemory(tmp_path).remember([seen(last), seen(last, subject=OWN)])

    threads = [threading.Thread(target=remember, args=(last,)) for last in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert HeadMemory(tmp_path).recall(ITEM) == seen(20)
    assert len(os.listdir(tmp_path / "heads" / VAULT)) == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "other", "spaces", "folder", "link", "fifo", "large", "of another item"])
def test_a_damaged_file_is_said_and_is_not_an_empty_memory(tmp_path: Path, damage: str) -> None:
    memory = HeadMemory(tmp_path)
    memory.remember([seen(4)])
    (file,) = (tmp_path / "heads" / VAULT).iterdir()
    data = file.read_bytes()
    file.unlink()
    match damage:
        case "folder":
            file.mkdir()
        case "link":
            (tmp_path / "elsewhere").write_bytes(data)
            file.symlink_to(tmp_path / "elsewhere")
        case "fifo":
            os.mkfifo(file)
        case _:
            changed = {
                "empty": b"",
                "cut": data[:-10],
                "other": b"{}\n",
                "spaces": data + b"\n",
                "large": data + b" " * 100_000,
                "of another item": data.replace(b"E 1", b"E 2"),
            }
            file.write_bytes(changed[damage])
    with pytest.raises(RememberedHeadsError, match="damaged") as raised:
        memory.recall(ITEM)
    assert "receipts forget-head " + VAULT in (raised.value.hint or "")
    with pytest.raises(RememberedHeadsError):
        memory.recall_vault(VAULT)
    if damage != "folder":  # which is nobody's of ours
        assert memory.forget(VAULT) == 1
        assert memory.recall(ITEM) is None


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTDIR])
def test_a_memory_that_the_disk_does_not_give_is_not_damaged_and_nobody_is_told_to_forget_it(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = HeadMemory(tmp_path / "heads")
    memory.remember([seen(3)])

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("evidencesync.localstate.heads.load_file", refuse)
        with pytest.raises(RememberedHeadsError, match="cannot be read") as raised:
            memory.recall(ITEM)
    assert "damaged" not in raised.value.message
    assert "forget" not in (raised.value.hint or "")
    assert memory.recall(ITEM) == seen(3)


@pytest.mark.parametrize("part", ["heads", f"heads/{VAULT}"])
def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path, part: str) -> None:
    HeadMemory(tmp_path / "other").remember([seen(4)])
    link = tmp_path / "state" / part
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "other" / part)
    memory = HeadMemory(tmp_path / "state")
    with pytest.raises(RememberedHeadsError):
        memory.recall(ITEM)
    with pytest.raises(RememberedHeadsError):
        memory.remember([seen(6)])
    if part == "heads":
        with pytest.raises(RememberedHeadsError, match="cannot be remembered"):
            memory.require_usable()  # before a push, and not after it


def test_a_state_folder_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    (tmp_path / "larger-disk").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "larger-disk")
    memory = HeadMemory(tmp_path / "state")
    memory.require_usable()
    memory.remember([seen(4)])
    memory.close()
    assert HeadMemory(tmp_path / "larger-disk").recall(ITEM) == seen(4)


def test_what_was_tried_is_what_is_used_whatever_happens_to_its_name(tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path / "state")
    memory.require_usable()
    (tmp_path / "state").rename(tmp_path / "moved")
    memory.remember([seen(4)])
    assert memory.recall(ITEM) == seen(4)
    memory.close()
    assert HeadMemory(tmp_path / "moved").recall(ITEM) == seen(4)
    assert not (tmp_path / "state").exists()


def test_nothing_is_remembered_in_a_vault(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "vault.toml").write_bytes(b"")
    for state in (tmp_path, tmp_path / "cases" / "state"):
        with pytest.raises(UsageError, match="in a vault"):
            HeadMemory(state).require_usable()
        with pytest.raises(RememberedHeadsError, match="in a vault"):
            HeadMemory(state).remember([seen(4)])
    assert sorted(os.listdir(tmp_path)) == ["cases", "vault.toml"]
    assert os.listdir(tmp_path / "cases") == []


@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, RememberedHeadsError), (errno.ENOSPC, NoRoomToRememberError)])
def test_a_disk_that_does_not_tell_where_the_folder_lies_is_trouble_with_the_memory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[RememberedHeadsError]
) -> None:
    """`verify` has its verdict then, and says that it could not remember."""

    def broken(*_: object) -> bool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(outside, "_is_vault", broken)
    with pytest.raises(kind):
        HeadMemory(tmp_path / "state").remember([seen(4)])


def test_a_folder_that_cannot_be_written_is_said_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RememberedHeadsError, match="cannot be remembered"):
            HeadMemory(bad).require_usable()


def test_a_full_disk_leaves_what_was_remembered(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path, 64 * 1024, str) as small:
        memory = HeadMemory(small)
        memory.remember([seen(4)])
        with pytest.raises(OSError, match="No space"):
            (small / "filler").write_bytes(bytes(64 * 1024))
        with pytest.raises(RememberedHeadsError, match="No space"):
            memory.remember([seen(6)])
        assert memory.recall(ITEM) == seen(4)


def test_one_item_can_be_forgotten_alone(tmp_path: Path) -> None:
    memory = HeadMemory(tmp_path)
    memory.remember([seen(4), seen(2, subject=OWN)])
    assert memory.forget(VAULT, "2026/11", "E 1") == 1
    assert [one.subject for one in memory.recall_vault(VAULT)] == [OWN]
    with pytest.raises(NotThereError):
        memory.forget(VAULT, "2026/11", "E 1")
    for no_id in ("..", "../../x", "", "AB" * 16):
        with pytest.raises(NotThereError):
            memory.forget(no_id)


def test_the_state_folder_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder(None) == tmp_path / "evidencesync"
    assert state_folder(tmp_path / "mine") == tmp_path / "mine"


@pytest.mark.parametrize(
    ("present", "is_what"),
    [
        (chain(6), ChainComparison.EXTENDS),
        (chain(9), ChainComparison.EXTENDS),
        (chain(4), ChainComparison.OLDER_COPY),
        (chain(2), ChainComparison.SHORTER),
        (chain(4, "b"), ChainComparison.FORKED),
        (chain(6, "b"), ChainComparison.FORKED),
        (chain(9, "b"), ChainComparison.FORKED),
        (chain(9, first=8), ChainComparison.FORKED),
    ],
)
def test_an_older_copy_is_told_from_a_fork(present: KnownChain, is_what: ChainComparison) -> None:
    assert chain(6, first=3).compare(present) is is_what


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_to_remember_is_told_as_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """By the code that says so everywhere (13); who catches what cannot be remembered catches this, too."""

    def full(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    memory = HeadMemory(tmp_path)
    monkeypatch.setattr("evidencesync.localstate.heads.replace_file", full)
    with pytest.raises(RememberedHeadsError) as told:
        memory.remember([seen(1)])
    monkeypatch.setattr("evidencesync.localstate.heads.KeptFolder", full)
    with pytest.raises(RememberedHeadsError) as tried:
        memory.require_usable()
    for error in (told.value, tried.value):
        assert (error.exit_code, error.slug) == (ExitCode.NO_SPACE, "no-room-to-remember")
