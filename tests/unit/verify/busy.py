"""A vault in which several people work, what this machine has seen of it, and what they do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.consistency import KnownChain
from evidencesync.custody.documents import CustodyRecord, Person, RecordType
from evidencesync.custody.sshsig import SigningKey
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.localstate.heads import HeadMemory, RememberedHead
from evidencesync.vault.heads import state_head
from evidencesync.vault.item import lock_item
from evidencesync.vault.ledger import Ledger, iter_records, sign_record
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Verdict
from tests.support.undo import Undo
from tests.unit.vault.acquiring import Acquirer

FILES: Final = {b"a": b"first", b"b/c": b"second"}
BEFORE_ALL_NS: Final = 1_690_000_000 * 10**9  # what `Acquirer` publishes is of a fixed day in 2023
NEW_YEAR_NS: Final = 1_767_225_600 * 10**9  # when a run of verify begins; all that happens meanwhile is later


@dataclass
class Busy:
    """A vault, who works in it, and what the machine remembers on which it is verified."""

    path: Path
    ana: SigningKey
    ben: SigningKey
    memory: HeadMemory
    now_ns: int = NEW_YEAR_NS

    def vault(self) -> Vault:
        return Vault.open(self.path)

    def audit(self, **options: Any) -> Verdict:
        return audit_vault(self.path, **{"now_ns": NEW_YEAR_NS, "memory": self.memory, **options})

    def push(self, signer: SigningKey, name: ItemName) -> None:
        """What a push does, to its end: published, stated, and remembered by who pushed."""
        vault = self.vault()
        Acquirer(vault, signer, name).acquire(FILES)
        self.state(vault, name)

    def note(
        self,
        signer: SigningKey,
        principal: str,
        name: ItemName,
        kind: RecordType = "noted",
        details: dict[str, str] | None = None,
    ) -> int:
        """Appends a record as an examiner does; its number."""
        vault = self.vault()
        with lock_item(vault.item(name)) as item:
            head = item.ledger.head()
            record = CustodyRecord(
                format="evidencesync-custody/1",
                vault_id=vault.settings.id,
                sequence=head.sequence + 1,
                type=kind,
                time=format_utc_time(self.tick()),
                case=name.case.text,
                item=name.item.text,
                actor=Person(principal, principal, signer.public_key.fingerprint),
                previous_sha256=head.sha256,
                details=details or {"text": "seen"},
            )
            item.ledger.append(*sign_record(record, signer))
        self.state(vault, name)
        return record.sequence

    def state(self, vault: Vault, name: ItemName) -> None:
        item = vault.item(name)
        state_head(vault, name, item.ledger.head(), at_ns=self.tick())
        subjects = {ChainSubject(vault.settings.id): vault.ledger}
        subjects[ChainSubject(vault.settings.id, name.case.text, name.item.text)] = item.ledger
        moment = format_utc_time(self.now_ns)
        self.memory.remember([RememberedHead(one, vault.settings.key, _seen(ledger), moment) for one, ledger in subjects.items()])

    def tick(self) -> int:
        self.now_ns += 10**9
        return self.now_ns


def _seen(ledger: Ledger) -> KnownChain:
    digests = [one.sha256 for one in iter_records(ledger)]
    return KnownChain.of(len(digests), digests)


@contextmanager
def a_copy(template: Busy, folder: Path) -> Iterator[Busy]:
    """A copy to work in. In the same folder it is put back for the next time, which takes less than to copy all of it."""
    folder.mkdir(exist_ok=True)
    for name in ("vault", "state"):
        _copy_of(template.path.parent / name, folder / name).undo()
    yield Busy(folder / "vault", template.ana, template.ben, HeadMemory(folder / "state"), template.now_ns)


@lru_cache(maxsize=4)
def _copy_of(template: Path, place: Path) -> Undo:
    return Undo(template, place)
