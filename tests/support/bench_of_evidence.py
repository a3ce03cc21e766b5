"""A vault, an examiner and a source in a temporary folder, and pushes between them: what transfer tests begin with."""

from __future__ import annotations

import os
import secrets
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidencesync.acquire.push import push
from evidencesync.acquire.request import PushOutcome, PushRequest
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.custody.manifest import CheckedLine, ManifestReader
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ingest.receive import receive
from evidencesync.source.filters import FilterRules
from evidencesync.ssh.keys import KeySigner
from evidencesync.vault.create import create_vault
from evidencesync.vault.settings import Policy
from evidencesync.vault.vault import Vault
from tests.support.patience import PATIENCE_SECONDS


def new_signer() -> KeySigner:
    """A fresh Ed25519 key."""
    return KeySigner.from_private(Ed25519PrivateKey.generate())


@dataclass
class Bench:
    """One vault that trusts one examiner, and a folder to be acquired."""

    vault: Vault
    signer: KeySigner
    source: Path
    name: ItemName

    def request(self, **changes: object) -> PushRequest:
        """A push of the source into the vault, with whatever a test wants otherwise."""
        request = PushRequest(
            source=os.fsencode(self.source),
            vault=os.fsencode(self.vault.layout.root),
            name=self.name,
            examiner="Ana",
            signer=self.signer,
            session=secrets.token_hex(16),
            rules=FilterRules.none(),
            command_line=["evidencesync", "push"],
            timeout_seconds=60,
            allow_empty=True,
        )
        return msgspec.structs.replace(request, **changes)

    def push(self, **changes: object) -> PushOutcome:
        """Pushes through a link inside this process; raises what the push raises."""
        ours, thread = self.serve()
        try:
            return push(ours, self.request(**changes), Progress())
        finally:
            thread.join(PATIENCE_SECONDS)

    def serve(self) -> tuple[LocalLink, threading.Thread]:
        """The client's end of a link to a vault's end that runs in a thread."""
        ours, theirs = local_pair()
        thread = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        thread.start()
        return ours, thread

    def _serve(self, link: LocalLink) -> None:
        try:
            receive(link, self.vault, "a test", may_reconnect=False)
        except EvidenceSyncError:
            return  # the other end is told

    def acquisition(self, number: int) -> Path:
        """The folder of an acquisition."""
        return self.vault.layout.item(self.name).acquisition(number)

    def acquisitions(self) -> list[str]:
        """The names of what is published."""
        folder = self.vault.layout.item(self.name).acquisitions
        return sorted(os.listdir(folder)) if folder.exists() else []

    def entries(self, number: int) -> dict[bytes, Entry]:
        """The entries of a published manifest by path, strictly read."""
        reader = ManifestReader()
        lines: list[CheckedLine] = reader.read_lines((self.acquisition(number) / "manifest.jsonl").read_bytes())
        reader.finish()
        return {path: line for path, line in lines if isinstance(line, Entry)}


def make_bench(folder: Path, lookup: Literal["item", "case", "vault"] = "case") -> Bench:
    """A new vault, which looks so far for what it has, and an empty source."""
    signer = new_signer()
    vault = create_vault(folder / "vault", "test", [(signer.public_key, "ana@lab")], policy=Policy(lookup=lookup))
    source = folder / "source"
    source.mkdir()
    return Bench(vault, signer, source, ItemName(Title("2026/11"), Title("E1")))


def copy_of(bench: Bench, folder: Path) -> Bench:
    """The same vault and source in another folder, with the same keys: a push takes ten times as long as to copy what it made."""
    subprocess.run(["cp", "-a", *(bench.source.with_name(name) for name in ("vault", "source")), folder], check=True)
    return Bench(Vault.open(folder / "vault"), bench.signer, folder / "source", bench.name)
