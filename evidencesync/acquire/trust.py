"""Has a vault change whom it trusts: the administrator's part. Each request is signed upon what the vault has shown, and once.

A change counts as made when the vault shows, as the next record of its own chain, one that keeps our request.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evidencesync.acquire.connect import pause_seconds
from evidencesync.acquire.documents import DocumentsRequest, fetch_documents, take_documents
from evidencesync.acquire.reading_session import ReadingSession
from evidencesync.connection.link import Link
from evidencesync.custody.documents import CUSTODY_NAMESPACE, Person
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.trust_requests import REQUEST_FORMAT, ChangeOfTrust, SignedRequest, TrustRequest
from evidencesync.errors import BusyError, ChainError, HeadMovedError, LinkLostError
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.protocol.trust_messages import TrustAsk
from evidencesync.vault.ledger import ChainHead
from evidencesync.vault.vault import Vault

_MOST_ATTEMPTS: Final = 5  # while others change the same chain
Compose = Callable[[Vault], ChangeOfTrust | None]
"""Decides what is to change, by what the vault has shown of itself; None: nothing. Called again where the chain has gone on."""


@dataclass(frozen=True, slots=True)
class Administrator:
    """How a vault is reached, who asks, and where its documents are put.

    `recall` is called with the vault's id before anything is read. `make_folder` makes one empty folder each time. `require`
    holds what is shown to what this machine has seen, before anything is signed. `tell` is told what the person should know.
    """

    connect: Callable[[], Link]
    request: DocumentsRequest
    name: str
    organisation: str | None
    recall: Callable[[str], None]
    make_folder: Callable[[], Path]
    require: Callable[[Vault], None]
    tell: Callable[[str], None]
    now: Callable[[], int]


def ask_for_change(admin: Administrator, compose: Compose) -> tuple[Vault, int | None]:
    """Has a change made, once; returns what the vault states about itself after it, and the number of the record.

    None: there was nothing to change. Where the vault's own chain has gone on meanwhile, it is asked again by what is there now;
    after a lost link, the chain shows whether the change was made. Raises what `compose` raises, what the vault refuses with,
    HeadMovedError where others are always first, LinkLostError, and ChainError where the vault shows another history.
    """
    return _Asking(admin, compose).run()


class _Asking:
    """One change, over as many links as it takes."""

    def __init__(self, admin: Administrator, compose: Compose) -> None:
        self._admin = admin
        self._compose = compose
        self._sent: list[SignedRequest] = []

    def run(self) -> tuple[Vault, int | None]:
        """See `ask_for_change`."""
        for attempt in range(_MOST_ATTEMPTS - 1):
            try:
                return self._once()
            except HeadMovedError as moved:
                self._admin.tell(f"{moved.message}; asking again by what is there now")
            except (LinkLostError, BusyError):
                if attempt >= self._admin.request.retries:
                    raise
                time.sleep(pause_seconds(attempt))
        return self._once()

    def _once(self) -> tuple[Vault, int | None]:
        admin = self._admin
        vault, session = fetch_documents(admin.connect, admin.request, admin.recall, admin.make_folder, admin.now)
        try:
            admin.require(vault)
            for sent in self._sent:
                if (number := _made(vault, sent)) is not None:
                    return vault, number
            if (change := self._compose(vault)) is None:
                return vault, None
            return self._ask(vault, session, change)
        finally:
            session.close()

    def _ask(self, before: Vault, session: ReadingSession, change: ChangeOfTrust) -> tuple[Vault, int]:
        admin, signer = self._admin, self._admin.request.signer
        key, head = signer.public_key, before.ledger.head()
        request = TrustRequest(
            format=REQUEST_FORMAT,
            vault_id=before.settings.id,
            vault_key=PublicKey.from_blob(session.welcome.vault_key).fingerprint,
            head_sequence=head.sequence,
            head_sha256=head.sha256 or "",
            nonce=session.welcome.nonce.hex(),
            time=format_utc_time(admin.now()),
            actor=Person(
                name=admin.name,
                principal=before.load_trust().principal_for(key, CUSTODY_NAMESPACE, admin.now()),
                key=key.fingerprint,
                organisation=admin.organisation,
            ),
            action=change.action,
            details=change.details,
        )
        signed = SignedRequest.of(request, signer)
        self._sent.append(signed)
        session.ask(TrustAsk(signed.data, signed.signature))
        after = take_documents(session, admin.make_folder())
        admin.require(after)
        _require_continued(after, head)
        if (number := _made(after, signed)) is None:
            raise ChainError("the vault says that trust was changed, and shows no record of it")
        shutil.rmtree(before.layout.root, ignore_errors=True)
        return after, number


def _require_continued(vault: Vault, head: ChainHead) -> None:
    """Raises ChainError where what the vault shows does not go on from what it has shown a moment ago."""
    files = vault.ledger.files()
    if len(files) < head.sequence or vault.ledger.load(files[head.sequence - 1]).sha256 != head.sha256:
        raise ChainError(
            "the vault shows another chain than it did a moment ago: it was cut off, or replaced",
            hint="Keep what this says, and have the vault verified.",
        )


def _made(vault: Vault, signed: SignedRequest) -> int | None:
    """The number of the record of a change that was asked for; None where it is not in the chain."""
    number = signed.request.head_sequence + 1
    file = next((file for file in vault.ledger.files()[number - 1 : number] if file.kind == "trust-changed"), None)
    if file is None or not signed.kept().items() <= vault.ledger.load(file).record.details.items():
        return None
    return number
