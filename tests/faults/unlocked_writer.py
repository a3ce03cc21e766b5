"""A process that adds to a vault's chains although no lock holds: flock(2) says yes to everybody, as for folders on NFS.

Run as: python -m tests.faults.unlocked_writer VAULT EXAMINER_KEY WHAT COUNT LETTER
It says that it is ready, waits for a line, and then prints one line for each attempt: what was acknowledged, or the error's slug.
"""

from __future__ import annotations

import fcntl
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidencesync.custody.documents import CustodyRecord, Person
from evidencesync.errors import LockedError
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.vault.heads import state_head
from evidencesync.vault.item import lock_item
from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.ledger import ChainHead, sign_record
from evidencesync.vault.publish import complete_unfinished
from evidencesync.vault.vault import Vault
from tests.unit.vault.acquiring import Acquirer, new_signer


class Writer:
    """What one process can add."""

    def __init__(self, vault: Vault, examiner: VaultSigner, letter: str) -> None:
        self.vault = vault
        self.acquirer = Acquirer(vault, examiner)
        self.letter = letter

    def heads(self, number: int) -> str:
        """States a head that nobody else states."""
        text = f"{self.letter}{number}"
        state_head(self.vault, self.acquirer.item().name, ChainHead(number + 1, text))
        return text

    def trust(self, number: int) -> str:
        """Trusts a new key."""
        key = new_signer().public_key
        self.vault.trust.add(key, f"{self.letter}{number}@lab")
        return key.fingerprint

    def note(self, number: int) -> str:
        """Adds a record to the item's chain."""
        text = f"{self.letter}{number}"
        with lock_item(self.acquirer.item()) as item:
            complete_unfinished(item)

            def sign(head: ChainHead) -> tuple[bytes, bytes]:
                return sign_record(self._noted(head, text), self.acquirer.examiner)

            item.ledger.append_upon_head(sign)
        return text

    def publish(self, number: int) -> str:
        """Publishes an acquisition of the item."""
        session = f"{ord(self.letter):02x}{number:030x}"
        self.acquirer.acquire({b"file": session.encode()}, session=session)
        return session

    def _noted(self, head: ChainHead, text: str) -> CustodyRecord:
        item = self.acquirer.item()
        person = Person(name="Ana", principal="ana@lab", key=self.acquirer.examiner.public_key.fingerprint)
        return CustodyRecord(
            format="evidencesync-custody/1",
            vault_id=item.vault_id,
            sequence=head.sequence + 1,
            type="noted",
            time=format_utc_time(time.time_ns()),
            case=item.name.case.text,
            item=item.name.item.text,
            actor=person,
            previous_sha256=head.sha256,
            details={"text": text},
        )


def main(vault: str, key: str, what: str, count: str, letter: str) -> None:
    """Tries so often, and until something was added."""
    fcntl.flock = lambda *_: None
    examiner = VaultSigner(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key)))
    writer = Writer(Vault.open(Path(vault)), examiner, letter)
    say("ready")
    sys.stdin.readline()
    number, has_added = 0, False
    while number < int(count) or not has_added:  # others can be in its way all the time, but not once they have ended
        try:
            say(f"added {getattr(writer, what)(number)}")
            has_added = True
        except LockedError as error:
            say(f"refused {error.slug}")
        number += 1


def say(line: str) -> None:
    """A line for whoever has started this."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
