"""Opens a vault for a command that reads its documents, wherever it lies: here, or over SSH."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from evidencesync.cli.help_text import SIGNING
from evidencesync.cli.options import KeyChoice, RemoteChoice, local_vault, vault_address
from evidencesync.cli.own_state import audit_memory
from evidencesync.errors import IncompleteError, StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from evidencesync.acquire.reading_session import FarReader
    from evidencesync.cli.command import Run
    from evidencesync.connection.link import Link
    from evidencesync.custody.roles import Grant
    from evidencesync.custody.sshsig import SigningKey
    from evidencesync.localstate.heads import HeadMemory
    from evidencesync.ssh.address import Address
    from evidencesync.vault.vault import Vault


@dataclasses.dataclass(frozen=True, slots=True)
class ReaderChoice(KeyChoice):
    """The key that is proved to a vault on another machine. A vault on this one needs none."""

    GROUP: ClassVar = SIGNING


@dataclasses.dataclass(frozen=True, slots=True)
class ReadableVault:
    """A vault whose documents can be read, and what this machine remembered of it before.

    `address`: where it lies, for a vault on another machine. Then only its documents are here, in a folder that is removed.
    `far`: how to ask it for more, where that is wanted. `grant`: what the reader's key may do there, if known.
    """

    vault: Vault
    memory: HeadMemory
    address: Address | None = None
    far: FarReader | None = None
    grant: Grant | None = None

    def may_show(self, case: str) -> bool:
        """Whether the vault shows a case to this reader, by its folder. False where the folder does not tell its number."""
        from evidencesync.evidence.identity import is_derived

        if self.grant is None or self.grant.cases is None:
            return True
        return not is_derived(case) and self.grant.covers(case)

    def shown_path(self, path: Path) -> str:
        """Returns where something of the vault lies, for people: at the vault, not where its documents are read."""
        if self.address is None:
            return str(path)
        there = self.address.path_there.rstrip("/")
        return f"{there}/{path.relative_to(self.vault.layout.root)}"


def reader_key(run: Run, reader: KeyChoice | SigningKey, ssh: RemoteChoice) -> SigningKey:
    """The key of who reads, which is loaded where it was only chosen. Raises SigningKeyError."""
    from evidencesync.cli.terminal import make_asker
    from evidencesync.ssh.keys import load_signer

    if not isinstance(reader, KeyChoice):
        return reader
    return load_signer(reader.key_choice(run.settings), ssh.identity_file(run.settings), make_asker(run.console.terminal))


@contextlib.contextmanager
def unread_is_incomplete() -> Iterator[None]:
    """Raises IncompleteError for what a vault's disk does not give to a command that only shows: that is no verdict on it."""
    try:
        yield
    except StorageError as refused:
        raise IncompleteError.of(refused) from refused


@contextlib.contextmanager
def readable_vault(  # noqa: PLR0913  # what each command needs of a vault, by its name
    run: Run,
    text: str,
    reader: KeyChoice | SigningKey,
    ssh: RemoteChoice,
    numbers: tuple[str | None, str | None],
    whole: Sequence[int] | None = (),
    *,
    rows: bool = True,
    planned: int | None = None,
    asks_more: bool = False,
    own: bool = False,
    limit_rate: int | None = None,
) -> Iterator[ReadableVault]:
    """Opens a vault; from another machine, the documents of the case and the item with these numbers are fetched.

    `whole`: the acquisitions of which all of the manifest is needed, 0 for the last one; without `rows` not the rows of chunks.
    None: all of every manifest, and no rows. `planned`: for a push that needs so many bytes at the least; then without rows, too.
    `asks_more`: the link stays open for further questions. `own`: only what the vault states about itself. `limit_rate`: in bytes
    a second. `reader`: who reads, by the key or by how it was chosen. Raises what opening a vault raises, and what connecting to
    one and being refused there raise.
    """
    from evidencesync.vault.vault import Vault

    address, memory = vault_address(text), audit_memory(run)
    if address.local:
        with unread_is_incomplete():
            here = Vault.open(local_vault(text))
        yield ReadableVault(here, memory)
        return
    from evidencesync.acquire.connect import connect_to_vault
    from evidencesync.acquire.custody import RETRIES
    from evidencesync.acquire.documents import DocumentsRequest, fetch_documents
    from evidencesync.acquire.reading_session import FarReader
    from evidencesync.cli.progress_display import VerifyView, shown
    from evidencesync.cli.terminal import person_at
    from evidencesync.connection.limited_link import LimitedLink
    from evidencesync.files.temporary import temporary_folder
    from evidencesync.localstate.heads import RecalledHeads
    from evidencesync.protocol.messages import ROLES_VERSION
    from evidencesync.verify.context import VerifyProgress

    request = DocumentsRequest(
        vault=os.fsencode(address.path),
        signer=reader_key(run, reader, ssh),
        session=secrets.token_hex(16),
        case=numbers[0],
        item=numbers[1],
        whole=None if whole is None else tuple(whole),
        rows=rows and planned is None,
        least_bytes=planned or 0,
        timeout_seconds=ssh.timeout_seconds(run.settings),
        retries=RETRIES,
        own=own,
    )
    recalled, fetched = RecalledHeads(memory), VerifyProgress()
    view = VerifyView(fetched, "connecting")

    def count(documents: int, size: int) -> None:
        fetched.files, fetched.bytes = documents, size

    def connect() -> Link:
        link = connect_to_vault(address, ssh.options(run.settings, person_at(run.console)))
        view.doing = "fetching documents"
        return link if limit_rate is None else LimitedLink(link, limit_rate)

    def make_folder() -> Path:
        return stack.enter_context(temporary_folder("documents-"))

    with contextlib.ExitStack() as stack:
        with shown(run.console, view) if whole is None or asks_more else contextlib.nullcontext():
            vault, session = fetch_documents(connect, request, recalled.recall_before, make_folder, count=count)
        run.events.record("read", what="documents", files=fetched.files, bytes=fetched.bytes)
        stack.callback(session.close)
        if not asks_more:
            session.close()
        knows_roles = session.welcome.version >= ROLES_VERSION
        grant = vault.load_trust().grant_of(request.signer.public_key) if knows_roles and numbers[0] is None else None
        yield ReadableVault(vault, recalled, address, FarReader(connect, request, session) if asks_more else None, grant)
