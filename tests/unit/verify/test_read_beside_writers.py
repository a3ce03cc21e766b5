"""A vault that is written to while it is verified: at whatever moment a push ends, nothing false is found."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.documents import CustodyRecord, Person
from evidencesync.custody.seen import SeenChain
from evidencesync.custody.sshsig import Signer
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.moment import format_moment
from evidencesync.kept.heads import HeadMemory, Remembered
from evidencesync.vault import staging
from evidencesync.vault.heads import state_head
from evidencesync.vault.item import lock_item
from evidencesync.vault.ledger import Ledger, iter_records, sign_record
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Verdict
from tests.unit.vault.acquiring import Acquirer, item_name, new_signer, new_vault
from tests.unit.verify.sample import slugs

FILES = {b"a": b"first", b"b/c": b"second"}
BEFORE_ALL_NS = 1_690_000_000 * 10**9  # what `Acquirer` publishes is of a fixed day in 2023
NEW_YEAR_NS = 1_767_225_600 * 10**9  # when the run begins; all that happens meanwhile is later
TRUE_OF_A_BUSY_VAULT = {"unfinished-publish", "unfinished-transfer", "unfinished-change"}


@dataclass
class Busy:
    """A vault, who works in it, and what the machine remembers on which it is verified."""

    path: Path
    ana: Signer
    ben: Signer
    memory: HeadMemory
    now_ns: int = NEW_YEAR_NS

    def vault(self) -> Vault:
        return Vault.open(self.path)

    def audit(self, **options: Any) -> Verdict:
        return audit_vault(self.path, **{"now_ns": NEW_YEAR_NS, "memory": self.memory, **options})

    def push(self, signer: Signer, name: ItemName) -> None:
        """What a push does, to its end: published, stated, and remembered by who pushed."""
        vault = self.vault()
        Acquirer(vault, signer, name).acquire(FILES)
        self.state(vault, name)

    def note(self, signer: Signer, principal: str, name: ItemName) -> None:
        vault = self.vault()
        with lock_item(vault.item(name)) as item:
            head = item.ledger.head()
            record = CustodyRecord(
                format="evidencesync-custody/1",
                vault_id=vault.settings.id,
                sequence=head.sequence + 1,
                type="noted",
                time=format_moment(self.tick()),
                case=name.case.text,
                item=name.item.text,
                actor=Person(principal, principal, signer.public_key.fingerprint),
                previous_sha256=head.sha256,
                details={"text": "seen"},
            )
            item.ledger.append(*sign_record(record, signer))
        self.state(vault, name)

    def state(self, vault: Vault, name: ItemName) -> None:
        item = vault.item(name)
        state_head(vault, name, item.ledger.head(), at_ns=self.tick())
        subjects = {ChainSubject(vault.settings.id): vault.ledger}
        subjects[ChainSubject(vault.settings.id, name.case.text, name.item.text)] = item.ledger
        moment = format_moment(self.now_ns)
        self.memory.remember([Remembered(one, vault.settings.key, _seen(ledger), moment) for one, ledger in subjects.items()])

    def tick(self) -> int:
        self.now_ns += 10**9
        return self.now_ns


def _seen(ledger: Ledger) -> SeenChain:
    digests = [one.sha256 for one in iter_records(ledger)]
    return SeenChain.of(len(digests), digests)


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


@contextmanager
def a_copy(template: Busy, folder: Path) -> Iterator[Busy]:
    shutil.copytree(template.path, folder / "vault", symlinks=True)
    shutil.copytree(template.path.parent / "state", folder / "state")
    yield Busy(folder / "vault", template.ana, template.ben, HeadMemory(folder / "state"), template.now_ns)
    shutil.rmtree(folder)


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


@pytest.mark.parametrize(("work", "step"), [(a_push, 5), (a_day, 1)])
def test_whatever_is_written_at_whatever_moment_nothing_false_is_found(
    template: Busy, tmp_path: Path, work: Callable[[Busy], None], step: int
) -> None:
    at, count = 0, 1
    while at < count:
        with a_copy(template, tmp_path / "run") as busy, pytest.MonkeyPatch.context() as patch:
            meanwhile = Meanwhile(patch, at, lambda: work(busy))
            verdict = busy.audit()
            count = meanwhile.count
            assert verdict.verdict == "pass", (at, verdict.findings)
            assert slugs(verdict, "error", "warning", "info") <= TRUE_OF_A_BUSY_VAULT | {"retired-signer"}, (at, verdict.findings)
            at += step
    assert count > 40
