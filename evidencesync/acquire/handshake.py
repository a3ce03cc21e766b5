"""Runs the client's half of the handshake: identifies the vault, and proves the examiner's key."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable
from typing import Final, Literal, Protocol, TypeVar

import msgspec

import evidencesync
from evidencesync.acquire.request import PushRequest
from evidencesync.acquire.session_recorder import SessionRecorder, ShownChains
from evidencesync.connection.link import Link
from evidencesync.custody.documents import SESSION_NAMESPACE, ReadingClaim, SessionClaim
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.sshsig import SigningKey, sign_document
from evidencesync.custody.vault_keys import VaultKeys, proven_keys
from evidencesync.delta.refine import DELTA_PARAMETERS
from evidencesync.errors import ProtocolError, SignatureError, VaultKeyChangedError, VersionError
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.evidence.identity import ItemName
from evidencesync.limits import MAX_TITLE
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import (
    PATIENT_VERSION,
    PREAMBLE,
    PROTOCOL_VERSION,
    READING_VERSION,
    VERSIONS,
    Alike,
    Begin,
    Changes,
    Hello,
    KeyChanges,
    Message,
    Patience,
    Previous,
    Published,
    Purpose,
    Ready,
    Records,
    Resumed,
    Welcome,
    clock_for,
)
from evidencesync.vault.layout import MAX_ACQUISITION, MAX_SEQUENCE

_LOG: Final = logging.getLogger(__name__)
_LOOK_BACK: Final = 16  # records before the last one that was seen
_CLAIM: Final = msgspec.json.Decoder(SessionClaim)

_M = TypeVar("_M", bound=Message)
_U32: Final = 2**32 - 1


class ReadingRequest(Protocol):
    """The examiner and the vault of a session. `vault` is the path as the other end knows it."""

    @property
    def vault(self) -> bytes:
        """The path."""

    @property
    def signer(self) -> SigningKey:
        """The examiner's key, which is proved to the vault."""

    @property
    def session(self) -> str:
        """The session's identifier."""

    @property
    def timeout_seconds(self) -> float:
        """After so long a silence this end takes a link for lost."""


class SessionRequest(ReadingRequest, Protocol):
    """The same of a session for an item."""

    @property
    def name(self) -> ItemName:
        """The item."""

    @property
    def read_back(self) -> bool:
        """Whether what is sent is to be read back from the disk."""


class Expect(Protocol):
    """Waits for the next message, which must be of one of the given kinds."""

    def __call__(self, *kinds: type[_M]) -> _M:
        """Returns that message; raises ProtocolError for another."""


RecallHeads = Callable[[str, VaultKeys], tuple[int, int]]
"""Returns, for a vault's id and keys, the numbers of the last records that are known of the item's chain and of its own."""


class Introduction(msgspec.Struct, frozen=True):
    """A vault's introduction: its welcome, and its keys, each of which the one before has signed (`changes`: these records)."""

    welcome: Welcome
    keys: VaultKeys
    key: PublicKey
    changes: list[tuple[bytes, bytes]]


class Handshake(msgspec.Struct, frozen=True):
    """The results of the handshake: the vault, its key, how far its clock is ahead of ours (nanoseconds), the item's state.

    `shown` has the chains that the vault has shown; `previous` the ends of the previous manifest, where it has shown them;
    `alike` the numbers that a new one may be taken for, where it has named some; `version` that of the protocol.
    """

    vault_id: str
    vault_key: PublicKey
    clock_offset: int
    ready: Ready
    shown: ShownChains
    previous: Previous | None = None
    alike: Alike | None = None
    version: int = PROTOCOL_VERSION


def begin_session(
    request: PushRequest,
    link: Link,
    expect: Expect,
    now: Callable[[], int],
    recorder: SessionRecorder,
    reconnect_seconds: float = 0.0,
) -> Handshake:
    """Runs the handshake of a new session. Raises the vault's error, VersionError, or ProtocolError.

    `reconnect_seconds`: for how long this end will try to reconnect after a lost link. For a vault whose chains do not continue
    those that were seen before it raises RolledBackError, ForkedError or ChainError.

    1. Both ends exchange their versions; the vault names itself and sends a nonce.
    2. The examiner's key signs the nonce together with this vault, item and session (namespace `session@evidencesync`):
       the vault knows the signer before any data travels, and the signature is of no use elsewhere.
    3. The vault locks the item, shows the records of both chains since those that were seen last, and states the item's head.
       The records that were seen must be there, and all later ones must be linked to them.
    """
    asked = now()
    introduced = _introduce(request, link, expect, asked)
    answered = now()
    welcome, vault_key = introduced.welcome, introduced.key
    shown = recorder.watch(welcome.vault_id, introduced.keys, request.name, introduced.changes)
    item_seen, own_seen = _seen(shown)
    if request.skip_unchanged:  # what was added since must not hide the record that states the previous manifest
        item_seen = max(item_seen - _LOOK_BACK, min(item_seen, 1))
    begin = _begin(request, welcome, vault_key, (item_seen, own_seen), resumes=False)
    link.write(_patience(request, welcome, reconnect_seconds, request.least_bytes) + frame_of(begin))
    previous: Previous | None = None
    alike: Alike | None = None
    while isinstance(answer := expect(Ready, Records, Previous, Alike), Records | Previous | Alike):
        if isinstance(answer, Records):
            shown.take(answer)
        elif isinstance(answer, Previous) and previous is None:
            previous = answer
        elif isinstance(answer, Alike) and alike is None:
            alike = answer
        else:
            raise ProtocolError("the vault says twice what came before")
    if not isinstance(answer, Ready):
        raise ProtocolError("the vault's end does not say where it stands")
    _check_state(answer)
    if previous is not None and answer.acquisition == 1:
        raise ProtocolError("the vault shows the ends of a manifest before there is one")
    if alike is not None and not all(map(is_clean, (*alike.items, *alike.cases))):
        raise ProtocolError("the vault names an impossible case or item")
    _log_state(answer)
    shown.finish_handshake(answer)
    clock_offset = welcome.clock - (asked + answered) // 2
    return Handshake(welcome.vault_id, vault_key, clock_offset, answer, shown, previous, alike, welcome.version)


def resume_session(
    request: PushRequest,
    link: Link,
    expect: Expect,
    now: Callable[[], int],
    handshake: Handshake,
    reconnect_seconds: float = 0.0,
) -> Resumed | Published:
    """Runs the handshake of a session that was begun on another link; returns where it resumes, or its acknowledgement.

    Raises ProtocolError when another vault answers, and otherwise as `begin_session` does.
    """
    introduced = _introduce(request, link, expect, now())
    welcome, vault_key = introduced.welcome, introduced.key
    if welcome.vault_id == handshake.vault_id and handshake.vault_key.fingerprint in introduced.keys.all[:-1]:
        raise VaultKeyChangedError("the vault's key was changed while the link was lost; the manifest names the old one")
    if (welcome.vault_id, vault_key) != (handshake.vault_id, handshake.vault_key):
        raise ProtocolError("another vault answers than the one that the transfer was begun with")
    begin = _begin(request, welcome, vault_key, _seen(handshake.shown), resumes=True)
    link.write(_patience(request, welcome, reconnect_seconds) + frame_of(begin))
    compared = False
    while isinstance(answer := expect(Resumed, Published, Records, Changes), Records | Changes):
        if isinstance(answer, Records):
            handshake.shown.take(answer)
        elif compared:
            raise ProtocolError("the vault says twice what has changed")
        compared = compared or isinstance(answer, Changes)
    if not isinstance(answer, Resumed | Published):
        raise ProtocolError("the vault's end does not say where it stands")
    if isinstance(answer, Resumed):
        _LOG.info("resumed: the vault has %d pages and %d segments of this transfer", answer.pages, answer.segments)
    else:
        _LOG.info("resumed: the vault had published everything before the link was lost")
    return answer


def begin_custody_session(
    request: SessionRequest, link: Link, expect: Expect, now: Callable[[], int], recall_heads: RecallHeads
) -> int:
    """Runs the handshake of a custody session; returns the protocol's version. The vault then sends the records of its chains.

    Raises as `begin_session` does, and what `recall_heads` raises.
    """
    introduced = _introduce(request, link, expect, now(), "custody")
    welcome, vault_key = introduced.welcome, introduced.key
    seen = recall_heads(welcome.vault_id, introduced.keys)  # before the vault reads a chain for us
    begin = _begin(request, welcome, vault_key, seen, resumes=False)
    link.write(_patience(request, welcome, 0.0) + frame_of(begin))
    return welcome.version


def begin_reading_session(
    request: ReadingRequest,
    link: Link,
    expect: Expect,
    now: Callable[[], int],
    recall: Callable[[str], None],
    least_bytes: int = 0,
    purpose: Literal["read", "trust"] = "read",
) -> Introduction:
    """Runs the handshake of a session that reads documents. `recall` is called with the vault's id before anything is read.

    `purpose`: `trust` for one in which trust is changed, too. Raises as `begin_session` does; VersionError for a vault's end that
    cannot be read from afar.
    """
    introduced = _introduce(request, link, expect, now(), purpose)
    welcome, key = introduced.welcome, introduced.key
    if welcome.version < READING_VERSION:
        raise VersionError(
            f"the vault's evidencesync ({safe_text(welcome.tool, 60)}) cannot show its documents from afar",
            hint="Update it there, or run the command on the vault's machine.",
        )
    recall(welcome.vault_id)
    claim = ReadingClaim(
        purpose=purpose,
        nonce=welcome.nonce.hex(),
        vault_id=welcome.vault_id,
        vault_key=key.fingerprint,
        session=request.session,
        key=request.signer.public_key.fingerprint,
    )
    encoded = msgspec.json.encode(claim)
    signature = sign_document(request.signer, SESSION_NAMESPACE, hashlib.sha512(encoded).digest())
    begin = Begin(encoded, signature, read_back=False, resumes=False, seen=0, vault_seen=0)
    link.write(_patience(request, welcome, 0.0, least_bytes) + frame_of(begin))
    return introduced


def _introduce(request: ReadingRequest, link: Link, expect: Expect, clock: int, purpose: Purpose = "push") -> Introduction:
    """Says Hello; returns how the vault introduces itself. Raises VersionError, ProtocolError, and as `proven_keys` does."""
    told = clock_for(None, clock)
    hello = Hello(list(VERSIONS), evidencesync.__version__, purpose, request.vault, DELTA_PARAMETERS, told)
    link.write(PREAMBLE + frame_of(hello))
    said = expect(Welcome, KeyChanges)
    changes = said.records if isinstance(said, KeyChanges) else []
    welcome = said if isinstance(said, Welcome) else expect(Welcome)
    if welcome.version not in VERSIONS or welcome.parameters != DELTA_PARAMETERS:
        raise VersionError("the two ends do not speak the same version of the protocol")
    tool, vault_id = safe_text(welcome.tool, 60), safe_text(welcome.vault_id, 60)
    _LOG.info("the other end is evidencesync %s, protocol %d, vault %s", tool, welcome.version, vault_id)
    key = _vault_key(welcome.vault_key)
    return Introduction(welcome, proven_keys(_checked_id(welcome.vault_id), key.fingerprint, changes), key, changes)


def _patience(request: ReadingRequest, welcome: Welcome, reconnect_seconds: float, least_bytes: int = 0) -> bytes:
    """Returns the frame of our Patience message; b"" for a version without it."""
    if welcome.version < PATIENT_VERSION:
        return b""
    return frame_of(patience_of(request.timeout_seconds, reconnect_seconds, least_bytes))


def patience_of(timeout_seconds: float, reconnect_seconds: float, least_bytes: int = 0) -> Patience:
    """Makes a Patience message. Times are rounded up, so that a sender that reconnects in time is not refused."""
    return Patience(min(math.ceil(timeout_seconds * 1000), _U32), min(math.ceil(reconnect_seconds), _U32), least_bytes)


def _check_state(ready: Ready) -> None:
    """Checks that the state of the item is possible, before the examiner's key signs it. Raises ProtocolError."""
    first = ready.acquisition == 1
    if (
        not 1 <= ready.acquisition <= MAX_ACQUISITION
        or first != (ready.previous_manifest_sha256 is None)
        or (ready.chain_sequence == 0) != (ready.chain_head_sha256 is None)
        or ready.chain_sequence + 2 > MAX_SEQUENCE
    ):
        raise ProtocolError("the vault states an impossible acquisition or custody chain")
    if not 1 <= len(ready.principal) <= MAX_TITLE or not is_clean(ready.principal):
        raise ProtocolError("the vault knows the examiner by an impossible name")


def _log_state(ready: Ready) -> None:
    _LOG.info("the vault knows the examiner as %s; this will be acquisition %d", safe_text(ready.principal), ready.acquisition)
    _LOG.info("the vault's index knows %d contents of the %s", ready.known_contents, ready.lookup)
    if ready.leftovers:
        _LOG.info("the vault has kept data of unfinished transfers: %d", ready.leftovers)


def _vault_key(blob: bytes) -> PublicKey:
    try:
        return PublicKey.from_blob(blob)
    except SignatureError as error:
        raise ProtocolError("the vault's key is malformed") from error


def _checked_id(vault_id: str) -> str:
    """Checks the form of the vault's id, before anything is looked up by it."""
    if len(vault_id) != 32 or not set(vault_id) <= set("0123456789abcdef"):
        raise ProtocolError("the vault's introduction is malformed")
    return vault_id


def _begin(request: SessionRequest, welcome: Welcome, vault_key: PublicKey, seen: tuple[int, int], *, resumes: bool) -> Begin:
    """`seen`: the numbers of the last records of the item's and of the vault's own chain that this machine has seen."""
    try:
        claim = SessionClaim(
            nonce=welcome.nonce.hex(),
            vault_id=welcome.vault_id,
            vault_key=vault_key.fingerprint,
            case=request.name.case.text,
            item=request.name.item.text,
            session=request.session,
            key=request.signer.public_key.fingerprint,
        )
        encoded = msgspec.json.encode(claim)
        _CLAIM.decode(encoded)  # what the vault calls itself is held to the documents' form
    except msgspec.MsgspecError as error:
        raise ProtocolError("the vault's introduction is malformed") from error
    signature = sign_document(request.signer, SESSION_NAMESPACE, hashlib.sha512(encoded).digest())
    return Begin(encoded, signature, request.read_back, resumes, *seen)


def _seen(shown: ShownChains) -> tuple[int, int]:
    return shown.item.sequence, shown.own.sequence
