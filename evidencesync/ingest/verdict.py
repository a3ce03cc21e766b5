"""Verifies the vault for who asks from afar, and signs what was found with the vault's key.

It is the check of `verify` at the vault, with the vault's own lists of signers; what a machine remembers of the vault is compared
at the reader's end. Nothing is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

import evidencesync
from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.custody.documents import VERDICT_NAMESPACE
from evidencesync.custody.sshsig import sign_document
from evidencesync.errors import (
    BusyError,
    InvalidNameError,
    LinkLostError,
    NotThereError,
    ProtocolError,
    UsageError,
    VaultKeyChangedError,
)
from evidencesync.evidence.digest import sha256_of, sha512_of
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import Title
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.ingest.admission import Reader
from evidencesync.ingest.rights import Rights
from evidencesync.limits import MAX_FILE_SIZE
from evidencesync.localstate.heads import NoMemory, RememberedHead
from evidencesync.protocol.data_frames import MAX_DATA, DataEncoder
from evidencesync.protocol.verdict_messages import Checking, CheckingHoles, VerdictShown, VerifyAsk
from evidencesync.vault.absent import SEE_LIST
from evidencesync.vault.catalog import is_folder
from evidencesync.vault.layout import SETTINGS, VAULT_KEY
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import AuditScope, audit_vault
from evidencesync.verify.context import UnwantedError, VerifyProgress
from evidencesync.verify.findings import Verdict
from evidencesync.verify.totals import begin_counting
from evidencesync.verify.vault_verdict import Question, VaultVerdict, bounded_findings, chain_ends, encode_verdict

_LOG: Final = logging.getLogger(__name__)
_AGAIN: Final = "Run the same command again."
_PLACE: Final = 256  # characters
_LOCK: Final = struct.Struct("hhqqi")  # struct flock of fcntl(2)
_LOCK_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def send_verdict(
    connection: SenderConnection, vault: Vault, reader: Reader, ask: VerifyAsk, now: Callable[[], int], *, tells_holes: bool
) -> None:
    """Verifies what is asked, and sends the signed verdict. `tells_holes`: the reader knows the message that does.

    1. The question is possible.  2. No other verification runs for this key: one of terabytes takes hours.
    3. A reader that ends the link ends the work.  4. The reader's key is still trusted, and may verify, when the vault signs.

    Raises ProtocolError and NotThereError (1), BusyError (2), LinkLostError (3), UntrustedSignerError, NotAllowedError (4),
    LimitExceededError.
    """
    scope = _scope(ask)  # 1
    _require_case(vault, Rights(vault, reader.key, now), scope.case)
    progress = VerifyProgress(is_wanted=lambda: not connection.has_gone)
    seen, begun, own = _SeenHeads(), now(), vault.signer.public_key
    with _only_one(vault, reader), connection.saying(lambda: checking(progress, tells_holes=tells_holes)):  # 2
        begin_counting(vault.layout.root, scope, progress)
        try:
            verdict = _audit(vault, scope, ask, seen, progress, begun)
        except UnwantedError as error:  # 3
            raise LinkLostError("the reader has gone before the vault was verified") from error
    ended = now()
    Rights(vault, reader.key, lambda: ended).require("verify", scope.case)  # 4, with the lists of now
    signer = vault.signer
    if signer.public_key != own:  # which the reader does not know yet
        raise VaultKeyChangedError("the vault's key was changed while the vault was verified", hint=_AGAIN)
    document = encode_verdict(
        VaultVerdict(
            format="evidencesync-verdict/1",
            vault_id=vault.settings.id,
            vault_key=signer.public_key.fingerprint,
            asked=Question(ask.nonce.hex(), ask.case, ask.item, ask.acquisition, ask.all_digests),
            reader_key=reader.key.fingerprint,
            session=reader.session,
            tool=f"evidencesync {evidencesync.__version__}",
            begun=format_utc_time(begun),
            ended=format_utc_time(ended),
            chains=chain_ends(seen.heads),
            verdict=msgspec.structs.replace(verdict, findings=bounded_findings(verdict.findings)),
        )
    )
    connection.send(VerdictShown(len(document), sign_document(signer, VERDICT_NAMESPACE, sha512_of(document))))
    encoder, view = DataEncoder("auto", time.monotonic), memoryview(document)
    for at in range(0, len(view), MAX_DATA):
        connection.write(encoder.encode([view[at : at + MAX_DATA]]))


def _scope(ask: VerifyAsk) -> AuditScope:
    try:
        for number in (ask.case, ask.item):
            if number is not None:
                Title(number)
        return AuditScope(ask.case, ask.item, ask.acquisition)
    except (InvalidNameError, UsageError) as error:
        raise ProtocolError("an impossible case or item is to be verified, or one of which nobody says where it is") from error


def _require_case(vault: Vault, rights: Rights, case: str | None) -> None:
    """Refuses a case that is not there, for who is bound to some: a verdict would name others that are nearly the same."""
    if case is not None and rights.are_bound and not is_folder(vault.layout.case(Title(case).folder)):
        raise NotThereError(f"the vault has nothing of case {safe_text(case)}", hint=SEE_LIST)


def _audit(vault: Vault, scope: AuditScope, ask: VerifyAsk, seen: _SeenHeads, progress: VerifyProgress, now_ns: int) -> Verdict:
    progress.require_wanted()
    return audit_vault(
        vault.layout.root,
        case=scope.case,
        item=scope.item,
        acquisition=scope.acquisition,
        memory=seen,
        all_digests=ask.all_digests,
        progress=progress,
        now_ns=now_ns,
    )


def checking(progress: VerifyProgress, *, tells_holes: bool) -> Checking:
    """Returns the message that says how far a check is."""
    counts = (progress.files, progress.bytes, progress.total_files, progress.total_bytes)
    files, read, total_files, total = (min(count, MAX_FILE_SIZE) for count in counts)
    place = progress.place[:_PLACE]
    if not tells_holes:
        return Checking(files, read, total_files, total, place)
    holes = min(progress.hole_bytes, MAX_FILE_SIZE), min(progress.total_hole_bytes, MAX_FILE_SIZE)
    return CheckingHoles(files, read, total_files, total, place, *holes)


class _SeenHeads(NoMemory):
    """Remembers nothing of before, and takes what a check would remember after a pass: the reader's machine does that."""

    def __init__(self) -> None:
        super().__init__("it is remembered where the verdict is wanted")
        self.heads: list[RememberedHead] = []

    def remember(self, seen: Iterable[RememberedHead]) -> None:
        """Takes them."""
        self.heads = [*seen]


@contextlib.contextmanager
def _only_one(vault: Vault, reader: Reader) -> Iterator[None]:
    """Holds the place of the one verification that a key may have run. Raises BusyError.

    It is a lock on one byte of the vault's private key, which no other account can open, or of vault.toml, to which no other can
    write, where an ssh-agent holds the key: it holds between processes, ends with
    them, and writes nothing. Where there are no such locks, as on a read-only file system, nobody is refused.
    """
    place = int(sha256_of(reader.key.fingerprint.encode()).hex()[:14], 16)
    with contextlib.ExitStack() as stack:
        try:
            held = _open_to_lock(vault)
            stack.callback(os.close, held)
            fcntl.fcntl(held, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
        except BlockingIOError as error:
            raise BusyError("the vault is verifying itself for this key already, in another session") from error
        except (AttributeError, OSError) as error:
            _LOG.info("how many verifications run is not known: %s", error)
        yield


def _open_to_lock(vault: Vault) -> int:
    try:
        return os.open(vault.layout.root / VAULT_KEY, _LOCK_FLAGS)
    except FileNotFoundError:
        return os.open(vault.layout.root / SETTINGS, _LOCK_FLAGS)
