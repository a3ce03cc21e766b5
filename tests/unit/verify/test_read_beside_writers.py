"""A vault that is written to while it is verified: at whatever moment a push ends, nothing false is found."""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evidencesync.custody.timestamp import Request
from evidencesync.errors import LockedError
from evidencesync.localstate.heads import HeadMemory
from evidencesync.vault import staging
from evidencesync.vault.index.index import rebuild
from evidencesync.vault.ledger import Ledger
from evidencesync.vault.timestamps import Answer, Who, attach, load_stamped
from tests.support.authority import make_authority
from tests.support.soak import often
from tests.unit.vault.acquiring import item_name, new_signer, new_vault
from tests.unit.verify.busy import BEFORE_ALL_NS, NEW_YEAR_NS, Busy, a_copy
from tests.unit.verify.sample import slugs

TRUE_OF_A_BUSY_VAULT = {"unfinished-publish", "unfinished-transfer", "unfinished-change"}


@pytest.fixture(autouse=True)
def nothing_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of vaults are made here, and none has to survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(staging, "sync_file_system", lambda *_: True)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Busy:
    folder = tmp_path_factory.mktemp("busy")
    ana = new_signer()
    new_vault(folder / "vault", ana)
    busy = Busy(folder / "vault", ana, new_signer(), HeadMemory(folder / "state"))
    busy.push(ana, item_name())
    return busy


class Meanwhile:
    """Does some work just before the reader's system call with a certain number, counted from 0. Only the reader's count."""

    CALLS = ("open", "scandir", "stat", "lstat", "listdir")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, work: Callable[[], None]) -> None:
        self.count = 0
        self._at = at
        self._work = work
        self._thread = threading.get_ident()
        self._working = False
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self._around(getattr(os, name)))
        remember = HeadMemory.remember
        monkeypatch.setattr(HeadMemory, "remember", lambda *arguments: self._aside(remember, *arguments))

    def _aside(self, call: Callable[..., object], *arguments: object) -> object:
        """Does something under a lock for which the work would wait."""
        before, self._working = self._working, True
        try:
            return call(*arguments)
        finally:
            self._working = before

    def _around(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*arguments: object, **options: object) -> object:
            if threading.get_ident() == self._thread and not self._working:
                if self.count == self._at:
                    self._working = True
                    self._work()
                    self._working = False
                self.count += 1
            return call(*arguments, **options)

        return counted


@contextmanager
def done_already(template: Busy, folder: Path, work: Callable[[Busy], None]) -> Iterator[Callable[[Busy], None]]:
    """The work, done once: it gives what puts all that it left into a copy, file by file, with new files for changed ones.

    To the reader it is the same whether somebody signs between two of his calls, or has signed before.
    """
    with a_copy(template, folder) as worked:
        work(worked)
        after = {place: _files(folder / place) for place in ("vault", "state")}
        folders = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_dir()]

        def put(busy: Busy) -> None:
            for one in folders:
                (busy.path.parent / one).mkdir(exist_ok=True)
            for place, files in after.items():
                top = busy.path.parent / place
                for gone in _files(top).keys() - files.keys():
                    (top / gone).unlink()
                for name, data in files.items():
                    path = top / name
                    if path.is_file() and path.read_bytes() == data:
                        continue
                    written = path.with_name(f"{path.name} written")
                    shutil.copy2(folder / place / name, written)
                    written.replace(path)

        yield put


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def a_push(busy: Busy) -> None:
    busy.push(busy.ana, item_name())


def a_day(busy: Busy) -> None:
    """New examiners push and note, in the item, in a new one, and in a new case; somebody leaves."""
    busy.vault().trust.add(busy.ben.public_key, "ana", at_ns=BEFORE_ALL_NS)  # `Acquirer` calls everybody so
    busy.push(busy.ben, item_name())
    busy.push(busy.ben, item_name())
    busy.push(busy.ana, item_name("2026/117", "new item"))
    busy.push(busy.ben, item_name("new case", "1"))
    cleo = new_signer()
    busy.vault().trust.add(cleo.public_key, "cleo", at_ns=busy.tick())
    busy.note(cleo, "cleo", item_name())
    busy.vault().trust.retire(busy.ana.public_key, at_ns=busy.tick())


@pytest.mark.slow
@pytest.mark.parametrize(("work", "step"), [(a_push, 5), (a_day, often(5, 1))])
def test_whatever_is_written_at_whatever_moment_nothing_false_is_found(
    template: Busy, tmp_path: Path, work: Callable[[Busy], None], step: int
) -> None:
    at, count = 0, 1
    with done_already(template, tmp_path / "worked", work) as put:
        while at < count:
            with a_copy(template, tmp_path / "run") as busy, pytest.MonkeyPatch.context() as patch:
                meanwhile = Meanwhile(patch, at, lambda: put(busy))
                verdict = busy.audit()
                count = meanwhile.count
                assert verdict.verdict == "pass", (at, verdict.findings)
                told = slugs(verdict, "error", "warning", "info") - {"retired-signer", "times-contradict"}  # true of a day
                assert told <= TRUE_OF_A_BUSY_VAULT, (at, verdict.findings)
                at += step
    assert count > 40


def index_anew(busy: Busy) -> None:
    index = busy.vault().index()
    rebuild(busy.vault().layout, index)
    index.close()


def a_push_and_its_index(busy: Busy) -> None:
    busy.push(busy.ana, item_name())
    busy.push(busy.ana, item_name("new case", "1"))
    index_anew(busy)


@pytest.mark.slow
def test_an_index_that_gets_what_is_published_meanwhile_is_never_said_to_differ(template: Busy, tmp_path: Path) -> None:
    """Nor one that was thrown away at that moment, to be made anew."""
    at, count = 0, 1
    while at < count:
        with a_copy(template, tmp_path / "run") as busy, pytest.MonkeyPatch.context() as patch:
            index_anew(busy)
            meanwhile = Meanwhile(patch, at, lambda: a_push_and_its_index(busy))
            verdict = busy.audit()
            count = meanwhile.count
            assert "index-differs" not in slugs(verdict), (at, verdict.findings)
            at += 12
    assert count > 40


def test_an_index_that_does_not_have_yet_what_was_published_meanwhile_is_not_said_to_differ(
    template: Busy, tmp_path: Path
) -> None:
    with a_copy(template, tmp_path / "run") as busy, pytest.MonkeyPatch.context() as patch:
        index_anew(busy)
        Meanwhile(patch, 40, lambda: a_push(busy))
        assert "index-differs" not in slugs(busy.audit(), "warning")
    with a_copy(template, tmp_path / "run") as busy:
        index_anew(busy)
        a_push(busy)
        assert "index-differs" in slugs(busy.audit(), "warning")


def a_timestamp(busy: Busy) -> None:
    vault = busy.vault()
    item = vault.item(item_name())
    attach(vault, item, 1, answer_over(load_stamped(item, 1)), Who(busy.ana, "Ana"), None, at_ns=busy.tick())


@functools.cache
def answer_over(stamped: bytes) -> Answer:
    """The same whenever it is asked for."""
    return Answer(make_authority().forge(stamped, NEW_YEAR_NS, nonce=7), Request.over(stamped, "sha512", 7).encode())


@pytest.mark.slow
def test_a_timestamp_that_is_attached_meanwhile_is_no_finding_but_that_it_is_there(template: Busy, tmp_path: Path) -> None:
    at, count = 0, 1
    while at < count:
        with a_copy(template, tmp_path / "run") as busy, pytest.MonkeyPatch.context() as patch:
            meanwhile = Meanwhile(patch, at, lambda: a_timestamp(busy))
            verdict = busy.audit()
            count = meanwhile.count
            assert verdict.verdict == "pass", (at, verdict.findings)
            assert slugs(verdict, "error", "warning") == set(), (at, verdict.findings)
            at += 5
    assert count > 40


def test_a_timestamp_without_its_record_is_an_attach_under_way_while_somebody_has_the_item(
    template: Busy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that was cut short, or put there by somebody else, where nobody has it."""
    seen = []

    def cut_short(_: Ledger, *__: bytes) -> None:
        seen.append(busy.audit())
        raise LockedError("the end")

    with a_copy(template, tmp_path / "run") as busy:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(LockedError):
            patch.setattr(Ledger, "append", cut_short)
            a_timestamp(busy)
        (during,) = seen
        assert (during.verdict, slugs(during, "info")) == ("pass", {"unfinished-change"}), during.findings
        after = busy.audit()
        assert (after.exit_code, slugs(after)) == (33, {"timestamp-not-recorded"}), after.findings
        a_timestamp(busy)
        assert busy.audit().verdict == "pass"
