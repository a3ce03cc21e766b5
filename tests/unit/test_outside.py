"""Where nothing may be written, by whatever way it is named; and that nothing is ever replaced."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.errors import EvidenceSyncError, NoSpaceError, ResourcesError, StorageError, UsageError
from evidencesync.export.destination import Destination
from evidencesync.outside import FOLDER_FLAGS, VAULT_MARKS, Closed, NewFile, lies_in, open_folder_outside, require_outside
from evidencesync.restore.restore import open_draft
from evidencesync.vault.layout import CASES, SETTINGS
from tests.support.file_systems import bound


def _is_in(folder: Path, other: Path) -> bool:
    fd = os.open(folder, FOLDER_FLAGS)
    try:
        return lies_in(fd, other)
    finally:
        os.close(fd)


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    made = tmp_path / "vault"
    (made / "cases" / "2024" / "LAPTOP").mkdir(parents=True)
    (made / "vault.toml").write_bytes(b"")
    (tmp_path / "vault-of-others" / "cases").mkdir(parents=True)
    return made


def test_a_vault_is_known_by_what_every_vault_has() -> None:
    assert VAULT_MARKS == (SETTINGS, CASES)


def test_a_folder_lies_in_another_by_whatever_links_lead_there(vault: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(vault / "cases")
    inside = vault / "cases" / "2024"
    for folder in (vault, inside, inside / "LAPTOP", tmp_path / "link" / "2024", tmp_path / "vault-of-others" / ".." / "vault"):
        assert _is_in(folder, vault), folder
    (tmp_path / "alias").symlink_to(vault)
    assert _is_in(inside, tmp_path / "alias")
    for folder in (tmp_path, tmp_path / "vault-of-others", tmp_path / "vault-of-others" / "cases", Path("/")):
        assert not _is_in(folder, vault), folder
    assert not _is_in(tmp_path, tmp_path / "nowhere")


def test_what_the_system_does_not_tell_is_not_outside(vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def refuse(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == vault:
            raise OSError(errno.EMFILE, "too many open files")
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="too many"):
        _is_in(tmp_path, vault)


def test_a_folder_that_may_not_be_read_is_known_all_the_same(vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def refuse(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == vault and not flags & os.O_PATH:
            raise PermissionError(errno.EACCES, "closed")
        return really(path, flags, mode, dir_fd=dir_fd)

    inside = vault / "cases"
    monkeypatch.setattr(os, "open", refuse)
    assert _is_in(inside, vault)


def test_no_second_mount_hides_where_a_folder_lies(vault: Path, tmp_path: Path) -> None:
    with bound(vault, tmp_path / "all of it") as whole, bound(vault / "cases" / "2024", tmp_path / "a\tpart") as part:
        assert _is_in(whole, vault)
        assert _is_in(whole / "cases", vault)
        assert _is_in(part, vault)
        assert _is_in(part / "LAPTOP", vault)
        assert _is_in(vault / "cases" / "2024" / "LAPTOP", part)
        assert not _is_in(part, vault / "cases" / "2024" / "LAPTOP")
        assert not _is_in(vault, part)
    with bound(tmp_path / "vault-of-others", tmp_path / "others") as others:
        assert not _is_in(others / "cases", vault)


def test_what_lies_in_any_vault_is_refused_and_in_what_is_closed(vault: Path, tmp_path: Path) -> None:
    def require(folder: Path, *closed: Closed) -> None:
        fd = os.open(folder, FOLDER_FLAGS)
        try:
            require_outside(fd, "it", closed)
        finally:
            os.close(fd)

    for folder in (vault, vault / "cases" / "2024"):
        with pytest.raises(UsageError, match="it lies in a vault"):
            require(folder)
    require(tmp_path / "vault-of-others" / "cases")  # which has no vault.toml
    with pytest.raises(UsageError, match="it lies in the source"):
        require(tmp_path / "vault-of-others" / "cases", Closed("the source", tmp_path / "vault-of-others"))
    require(tmp_path, Closed("the source", tmp_path / "nowhere"))


def test_a_folder_that_would_lie_inside_is_not_even_made(vault: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(vault / "cases")
    for wanted in (vault / "a" / "b", tmp_path / "link" / "a" / "b"):
        with pytest.raises(UsageError, match="in a vault"):
            open_folder_outside(wanted, "it", (), "", follow=True)
    assert not list(vault.rglob("a"))
    os.close(open_folder_outside(tmp_path / "new" / "deep" / "er", "it", (), "", follow=True))
    assert (tmp_path / "new" / "deep" / "er").stat().st_mode & 0o777 == 0o700
    (tmp_path / "nowhere").symlink_to(tmp_path / "not-mounted")
    with pytest.raises(OSError, match=r"Too many levels|Not a directory"):
        open_folder_outside(tmp_path / "nowhere", "it", (), "", follow=True)
    assert not (tmp_path / "not-mounted").exists()


@pytest.mark.parametrize(
    "take",
    [
        lambda place: place.write_bytes(b"kept"),
        lambda place: place.mkdir(),
        lambda place: place.symlink_to("/etc/passwd"),
        lambda place: place.symlink_to("nowhere"),
        os.mkfifo,
    ],
    ids=["file", "folder", "link", "link that leads nowhere", "FIFO"],
)
def test_a_name_that_is_taken_stays_whose_it_is(take: Callable[[Path], object], tmp_path: Path) -> None:
    taken = tmp_path / "report.html"
    with NewFile(taken) as place:
        take(taken)  # meanwhile
        before = os.lstat(taken)
        with pytest.raises(UsageError, match="is there already"), place.writing() as file:
            file.write(b"mine")
    with pytest.raises(UsageError, match="is there already"):
        NewFile(taken)
    with NewFile(tmp_path / "report") as place, pytest.raises(UsageError, match="is there already"):
        place.claim(".html")
    assert os.lstat(taken) == before
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_file_is_there_whole_or_not_at_all_and_where_it_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with NewFile(tmp_path / "folder" / "a") as place:
        with pytest.raises(ZeroDivisionError), place.writing() as file:
            file.write(b"half")
            raise ZeroDivisionError
        assert os.listdir(tmp_path / "folder") == []
        (tmp_path / "folder").rename(tmp_path / "moved")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "folder").symlink_to("elsewhere")
        with place.writing() as file:
            file.write(b"whole")
        place.claim(".sig")
        with place.writing(".sig") as file:
            file.write(b"signed")
    assert (tmp_path / "moved" / "a").read_bytes() == b"whole"
    assert sorted(os.listdir(tmp_path / "moved")) == ["a", "a.sig"]
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("wanted", ["nowhere/x", "file/x", "..", "folder/..", ""])
def test_a_place_that_is_none_is_a_usage_error(wanted: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError):
        NewFile(tmp_path / wanted if wanted else Path())


def test_a_name_that_no_file_can_have_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name too long") as caught:
        NewFile(tmp_path / ("x" * 300))
    assert "shorter" in (caught.value.hint or "")


@pytest.mark.parametrize("folder", ["/dev", "/proc", "/proc/self", "/sys", "/dev/fd"])
def test_what_is_the_systems_own_is_no_place_for_a_file(folder: str) -> None:
    for name in ("made-by-evidencesync.html", "stdout.html"):
        with pytest.raises(UsageError, match=r"belong to the system"):
            NewFile(Path(folder) / name)


def test_a_disk_in_memory_that_is_mounted_there_is_one(tmp_path: Path) -> None:
    place = Path("/dev/shm")
    if not os.path.ismount(place):
        pytest.skip("nothing is mounted on /dev/shm")
    with NewFile(place / f"of-a-test-of-evidencesync-{os.getpid()}") as new:
        assert not new.path.exists()


def _refusing_drafts(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def refuse(path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & (os.O_CREAT | os.O_WRONLY):
            raise OSError(code, os.strerror(code))
        return really(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        (errno.EACCES, UsageError),
        (errno.EROFS, UsageError),
        (errno.EPERM, UsageError),
        (errno.ENOSPC, NoSpaceError),
        (errno.EDQUOT, NoSpaceError),
        (errno.EMFILE, ResourcesError),
        (errno.EIO, StorageError),
        (errno.ESTALE, StorageError),
        (errno.ENOTCONN, StorageError),
    ],
)
def test_that_nothing_can_be_made_in_a_folder_is_known_before_the_work(
    code: int, refused: type[EvidenceSyncError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refusing_drafts(code, monkeypatch)
    with pytest.raises(refused) as caught:
        NewFile(tmp_path / "report.html")
    assert caught.value.hint
    assert "vault" not in caught.value.hint


@pytest.mark.parametrize("nameless", [True, False])
def test_nothing_is_left_of_the_look_at_a_folder(nameless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where files without a name are not to be had (FAT, NFS), and also where the folder takes names and gives none back."""
    if not nameless:
        monkeypatch.setattr("evidencesync.outside._NAMELESS", None)
    before = len(os.listdir("/proc/self/fd"))
    NewFile(tmp_path / "report.html").close()
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) == before
    if nameless:
        monkeypatch.setattr(os, "unlink", None)
        NewFile(tmp_path / "report.html").close()
        assert os.listdir(tmp_path) == []


def test_nothing_is_left_of_a_file_that_the_system_does_not_even_describe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with NewFile(tmp_path / "out") as place, monkeypatch.context() as broken, pytest.raises(StorageError):
        broken.setattr(os, "fstat", refuse)
        with place.writing():
            pass
    assert os.listdir(tmp_path) == []


def test_what_has_failed_in_the_end_has_no_name_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file has its name before it loses that of its draft."""
    really, refused = os.unlink, list[str]()

    def refuse_once(path: str, *, dir_fd: int | None = None) -> None:
        if not refused:
            refused.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        really(path, dir_fd=dir_fd)

    with NewFile(tmp_path / "report.html") as place:
        monkeypatch.setattr(os, "unlink", refuse_once)
        with pytest.raises(StorageError), place.writing() as file:
            file.write(b"whole")
    assert refused
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("code", "refused"), [(errno.EROFS, StorageError), (errno.EDQUOT, NoSpaceError)])
def test_what_happens_to_a_disk_meanwhile_is_said_of_that_disk(
    code: int, refused: type[EvidenceSyncError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with NewFile(tmp_path / "report.html") as place:
        _refusing_drafts(code, monkeypatch)
        with pytest.raises(refused, match=r"could not write .*report\.html\.sig") as caught, place.writing(".sig"):
            pass
    assert "vault" not in (caught.value.hint or "")
    assert os.listdir(tmp_path) == []


def _make_file(wanted: Path, _: Path) -> None:
    NewFile(wanted)


def _make_copy(wanted: Path, vault: Path) -> None:
    with open_draft(os.fsencode(wanted), vault):
        pass


def _make_export(wanted: Path, vault: Path) -> None:
    Destination(wanted, vault)


@pytest.mark.parametrize("make", [_make_file, _make_copy, _make_export])
@pytest.mark.parametrize("call", ["open", "stat"])
@pytest.mark.parametrize(
    ("code", "refused"), [(errno.EIO, StorageError), (errno.ESTALE, StorageError), (errno.EACCES, UsageError)]
)
def test_a_broken_disk_at_the_destination_is_no_mistake_of_who_named_it(
    make: Callable[[Path, Path], None],
    call: str,
    code: int,
    refused: type[EvidenceSyncError],
    vault: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether its folder cannot be opened, or a name in it cannot be looked at."""
    wanted = tmp_path / "place" / "copy"
    wanted.parent.mkdir()
    really: Callable[..., object] = getattr(os, call)
    failing = wanted.parent if call == "open" else wanted.name

    def refuse(path: int | str | bytes | Path, *more: object, **named: object) -> object:
        if not isinstance(path, int) and os.fsencode(path) == os.fsencode(failing):
            raise OSError(code, os.strerror(code))
        return really(path, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(refused, match="place") as caught:
            make(wanted, vault)
    assert type(caught.value) is refused
    assert "vault" not in (caught.value.hint or "")


def test_a_folder_in_which_nothing_can_be_looked_for_is_not_taken_for_no_vault(
    vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> os.stat_result:
        raise OSError(errno.EIO, "bad sector")

    folder = os.open(vault / "cases", FOLDER_FLAGS)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", refuse)
            with pytest.raises(StorageError, match=r"whether /place/report\.html lies in a vault: bad sector"):
                require_outside(folder, "/place/report.html")
    finally:
        os.close(folder)
