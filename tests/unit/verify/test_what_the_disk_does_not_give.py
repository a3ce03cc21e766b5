"""Whatever one file or folder of a vault cannot be read: the verdict is incomplete, names it, and accuses nobody."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.kept.heads import HeadMemory
from evidencesync.vault import staging
from evidencesync.vault.reindex import rebuild
from evidencesync.vault.timestamps import Answer, Who, attach
from tests.support.authority import make_authority
from tests.unit.vault.acquiring import item_name, new_signer, new_vault
from tests.unit.verify.busy import BEFORE_ALL_NS, NEW_YEAR_NS, Busy
from tests.unit.verify.sample import slugs

OTHER = item_name("2026/117", "second item")
MAY_BE_SAID = {"unreadable", "not-compared"}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Busy:
    """A vault with a bit of everything whose judgement depends on something else."""
    folder = tmp_path_factory.mktemp("unread")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(staging, "sync_file_system", lambda *_: True)
        ana = new_signer()
        new_vault(folder / "vault", ana)
        busy = Busy(folder / "vault", ana, new_signer(), HeadMemory(folder / "state"))
        busy.push(ana, item_name())
        busy.push(ana, OTHER)
        busy.vault().trust.add(busy.ben.public_key, "ben", at_ns=BEFORE_ALL_NS)
        handed = busy.note(ana, "ana", OTHER, "handed-over", {"to": "ben"})
        busy.note(busy.ben, "ben", OTHER, "accepted", {"record": str(handed)})
        item = busy.vault().item(OTHER)
        stamped = (item.layout.acquisition(1) / "manifest.jsonl.sig").read_bytes()
        answer = Answer(make_authority().forge(stamped, NEW_YEAR_NS))
        attach(busy.vault(), item, 1, answer, Who(busy.ben, "Ben"), None, at_ns=busy.tick())
        busy.note(busy.ben, "ben", OTHER)
        busy.vault().trust.retire(busy.ben.public_key, at_ns=busy.tick())
        busy.push(ana, OTHER)
        index = busy.vault().index()
        rebuild(busy.vault().layout, index)
        index.close()
    verdict = busy.audit(now_ns=busy.tick())
    assert verdict.verdict == "pass", verdict.findings
    return busy


class Unreadable:
    """The system refuses one place of a vault, in one of the ways in which disks and modes do so."""

    def __init__(self, patch: pytest.MonkeyPatch, place: Path, how: str) -> None:
        self._place = str(place)
        self._how = how
        self._broken: dict[int, os.stat_result] = {}
        for name in ("open", "scandir", "stat", "fstat", "listdir", "lstat"):
            patch.setattr(os, name, getattr(self, f"_{name}")(getattr(os, name)))

    def _is_it(self, path: object, dir_fd: int | None) -> bool:
        if isinstance(path, int):
            found = os.readlink(f"/proc/self/fd/{path}")
        else:
            above = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd()
            found = os.path.join(above, os.fsdecode(path))  # type: ignore[arg-type]
        return found == self._place

    def _open(self, call: Callable[..., int]) -> Callable[..., int]:
        def opened(path: object, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            if self._is_it(path, dir_fd):
                if self._how == "open":
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                if self._how == "read" and os.path.isfile(self._place):
                    fd = call("/proc/self/mem", os.O_RDONLY)  # a file of which the kernel gives no byte: EIO
                    self._broken[fd] = os.lstat(self._place)
                    return fd
            return call(path, flags, mode, dir_fd=dir_fd)

        return opened

    def _scandir(self, call: Callable[..., object]) -> Callable[..., object]:
        def listed(path: object) -> object:
            if self._how == "read" and self._is_it(path, None):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(path)

        return listed

    _listdir = _scandir

    def _stat(self, call: Callable[..., object]) -> Callable[..., object]:
        def looked_at(path: object, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> object:
            if self._how == "stat" and self._is_it(path, dir_fd):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

        return looked_at

    def _lstat(self, call: Callable[..., object]) -> Callable[..., object]:
        def looked_at(path: object, *, dir_fd: int | None = None) -> object:
            if self._how == "stat" and self._is_it(path, dir_fd):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(path, dir_fd=dir_fd)

        return looked_at

    def _fstat(self, call: Callable[..., object]) -> Callable[..., object]:
        def looked_at(fd: int) -> object:
            if fd in self._broken and os.readlink(f"/proc/self/fd/{fd}").endswith("/mem"):
                return self._broken[fd]
            if self._how == "stat" and self._is_it(fd, None):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(fd)

        return looked_at


@pytest.mark.parametrize("how", ["open", "read", "stat"])
def test_what_cannot_be_read_is_never_called_gone_nor_is_what_depends_on_it_judged(busy: Busy, tmp_path: Path, how: str) -> None:
    places = [busy.path, *sorted(busy.path.rglob("*"))]
    places = [one for one in places if one.parent.parent.name != "acquisitions" or "second" in str(one)]  # once is enough
    assert len(places) > 60
    untouched = []
    for place in places:
        with pytest.MonkeyPatch.context() as patch:
            Unreadable(patch, place, how)
            verdict = busy.audit(now_ns=busy.now_ns)
        shown = place.relative_to(busy.path)
        assert slugs(verdict) <= MAY_BE_SAID, (how, str(shown), verdict.findings)
        if verdict.verdict == "pass":
            untouched.append(str(shown))
        else:
            assert (verdict.verdict, verdict.exit_code) == ("incomplete", 3), (how, str(shown), verdict.findings)
            assert "unreadable" in slugs(verdict), (how, str(shown), verdict.findings)
    not_read = {"vault_key"} | {str(one.relative_to(busy.path)) for one in (busy.path / "index").iterdir()}
    assert how == "stat" or set(untouched) <= not_read, untouched
