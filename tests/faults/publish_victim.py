"""A process that publishes one acquisition and is killed by itself, for good, when a named step is done."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.vault import Vault
from tests.unit.vault.acquiring import Acquirer

FILES = {b"logs/a.log": b"line\n" * 1000, b"logs/empty": b"", b"image": bytes(range(256)) * 2000}


def main(vault: str, key: str, session: str, last_step: str) -> None:
    """Publishes until the step."""

    def die(step: str) -> None:
        if step == last_step:
            os.kill(os.getpid(), signal.SIGKILL)

    examiner = VaultSigner(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key)))
    acquirer = Acquirer(Vault.open(Path(vault)), examiner)
    if last_step == "staged":
        acquirer.stage_only(FILES, session)
        die("staged")
    acquirer.acquire(FILES, session=session, fault=die)
