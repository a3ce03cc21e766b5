"""Asks a far vault to verify itself, waits for the verdict that its key signs, and checks that it is the answer to our question.

What is checked is that the vault's key has said so to us, now. Whether it is true, the bytes there know.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from evidencesync.acquire.connect import pause_seconds
from evidencesync.acquire.reading_session import ReadingSession
from evidencesync.connection.link import Link
from evidencesync.connection.process import SteadyClock
from evidencesync.connection.waiting import Standstill
from evidencesync.custody.documents import VERDICT_NAMESPACE
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.sshsig import SigningKey, verify_signature
from evidencesync.custody.vault_keys import VaultKeys
from evidencesync.errors import BusyError, LinkLostError, ProtocolError, SignatureError, UntrustedSignerError, VersionError
from evidencesync.evidence.digest import sha512_of
from evidencesync.evidence.display import safe_text
from evidencesync.limits import KIB, LEAST_WORK_RATE, MAX_STANDSTILL_SECONDS, NONCE
from evidencesync.protocol.messages import ASKING_VERSION, HOLES_VERSION, Welcome
from evidencesync.protocol.verdict_messages import (
    Checking,
    CheckingHoles,
    RecordAllowed,
    RecordAsk,
    VerdictShown,
    VerifyAsk,
)
from evidencesync.verify.audit import AuditScope
from evidencesync.verify.context import VerifyProgress
from evidencesync.verify.vault_verdict import Question, VaultVerdict, decode_verdict

_FILE: Final = 4 * KIB  # what a file counts for beside its bytes: to look at many small ones is progress, too


@dataclass(frozen=True, slots=True)
class VerdictRequest:
    """What is to be verified, and who asks. `vault` is the path as the other end knows it."""

    vault: bytes
    signer: SigningKey
    session: str
    scope: AuditScope
    all_digests: bool = False
    timeout_seconds: float = 60.0
    retries: int = 0
    to_record: str | None = None
    """The verdict is to be recorded: whether that will be refused is asked first. What to say of it then, for people."""


@dataclass(frozen=True, slots=True)
class SignedVerdict:
    """A vault's verdict that is the answer to our question: the document, its exact bytes, and the signature of its key.

    `keys`: those of the vault, as it has proved them; the last one is that key.
    """

    verdict: VaultVerdict
    document: bytes
    signature: bytes
    keys: VaultKeys


def fetch_verdict(
    connect: Callable[[], Link],
    request: VerdictRequest,
    recall: Callable[[str], None],
    progress: VerifyProgress,
    notify: Callable[[str], None] = lambda _line: None,
    now: Callable[[], int] | None = None,
    session: ReadingSession | None = None,
) -> SignedVerdict:
    """Has the vault verified, and returns its verdict.

    `recall` is called with the vault's id before anything is read: what this machine remembers must be older than what is shown.
    `session`: one of the same request that is open already is taken over, and asked first.
    A lost link, or another verification for our key, begins it again; `notify` is called with a line about that. Raises what the
    vault refuses us with, ProtocolError, SignatureError, MalformedDocumentError, LinkLostError, VersionError.
    """
    clock = now or SteadyClock()

    def ask(opened: ReadingSession | None) -> SignedVerdict:
        return _ask(opened or ReadingSession(connect(), request, clock, recall), request, progress)

    for attempt in range(request.retries):
        try:
            return ask(session)
        except (LinkLostError, BusyError) as error:
            seconds = pause_seconds(attempt)
            notify(f"{error.message}; the verification begins again in {seconds:.1f} s ({attempt + 1} of {request.retries})")
            time.sleep(seconds)
            session = None
    return ask(session)


def _ask(opened: ReadingSession, request: VerdictRequest, progress: VerifyProgress) -> SignedVerdict:
    scope, nonce = request.scope, secrets.token_bytes(NONCE)
    with closing(opened) as session:
        if session.welcome.version < ASKING_VERSION:
            raise VersionError(
                f"the vault's evidencesync ({safe_text(session.welcome.tool, 60)}) cannot verify for who asks from afar",
                hint="Update it there, or run the command on the vault's machine.",
            )
        if request.to_record is not None and session.welcome.version >= HOLES_VERSION:
            _require_recorder(session, scope.case, request.to_record)
        session.ask(VerifyAsk(nonce, scope.case, scope.item, scope.acquisition, request.all_digests))
        shown = _await_verdict(session, progress, request.timeout_seconds)
        document = b"".join(session.data(shown.size))
    asked = Question(nonce.hex(), scope.case, scope.item, scope.acquisition, request.all_digests)
    verdict = _checked(document, shown.signature, session.welcome, request, asked)
    return SignedVerdict(verdict, document, shown.signature, session.keys)


def _require_recorder(session: ReadingSession, case: str | None, said: str) -> None:
    """Raises what the vault will refuse a record with, before a check that may take hours."""
    try:
        session.ask(RecordAsk(case))
        session.expect(RecordAllowed)
    except UntrustedSignerError as error:
        error.hint = said if error.hint is None else f"{said} {error.hint}"
        raise


def note_checking(progress: VerifyProgress, said: Checking) -> None:
    """Takes over what a vault says of how far it is."""
    progress.files, progress.bytes = said.files, said.bytes
    progress.total_files, progress.total_bytes = said.total_files, said.total_bytes
    if isinstance(said, CheckingHoles):
        progress.hole_bytes, progress.total_hole_bytes = said.hole_bytes, said.total_hole_bytes
    progress.place = safe_text(said.place)


def _await_verdict(session: ReadingSession, progress: VerifyProgress, timeout_seconds: float) -> VerdictShown:
    """Waits for as long as the vault says that it gets on. Raises LinkLostError for one that says so and does nothing."""
    standstill = Standstill("the vault's end", MAX_STANDSTILL_SECONDS, timeout_seconds)
    while isinstance(said := session.expect(VerdictShown, Checking), Checking):
        note_checking(progress, said)
        standstill.show(said.bytes + said.files * _FILE, LEAST_WORK_RATE)
        standstill.go_on()
    if not isinstance(said, VerdictShown):
        raise ProtocolError("the vault's end says something else than how far it is")
    return said


def _checked(document: bytes, signature: bytes, welcome: Welcome, request: VerdictRequest, asked: Question) -> VaultVerdict:
    """Returns the verdict in a document that came.

    1. The signature is good, in the namespace of verdicts, and by the key that the vault has shown.
    2. It is in the strict form, and agrees with itself.
    3. It answers our question, which has our nonce: no earlier verdict does.
    4. It is of this vault, for our key and session.

    Raises SignatureError (1), MalformedDocumentError (2), ProtocolError (3, 4).
    """
    key = PublicKey.from_blob(welcome.vault_key)
    if verify_signature(signature, VERDICT_NAMESPACE, sha512_of(document), low_s=True) != key:
        raise SignatureError("the vault's verdict is signed by another key than the vault has")  # 1
    verdict = decode_verdict(document)  # 2
    if verdict.asked != asked:
        raise ProtocolError("the vault's verdict answers another question, or was made at another time")  # 3
    stated = (verdict.vault_id, verdict.vault_key, verdict.reader_key, verdict.session)
    if stated != (welcome.vault_id, key.fingerprint, request.signer.public_key.fingerprint, request.session):
        raise ProtocolError("the vault's verdict is of another vault, or for another reader")  # 4
    return verdict
