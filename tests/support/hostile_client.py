"""A client with a trusted key that may break any rule: what it sends is made by hand, what answers is the real vault's end."""

from __future__ import annotations

import os
import secrets
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

import evidencesync
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.connection.sender_connection import SINGLE_SESSION, Host
from evidencesync.custody.documents import (
    CUSTODY_NAMESPACE,
    MANIFEST_NAMESPACE,
    SESSION_NAMESPACE,
    Clock,
    CustodyRecord,
    ManifestHeader,
    Method,
    Origin,
    Person,
    ReadingClaim,
    SessionClaim,
)
from evidencesync.custody.manifest import encode_entry_lines, encode_footer
from evidencesync.custody.record import encode_record
from evidencesync.custody.sshsig import sign_document
from evidencesync.custody.wholeness import ManifestTally
from evidencesync.delta.refine import DELTA_PARAMETERS
from evidencesync.errors import EvidenceSyncError, LinkLostError
from evidencesync.evidence.digest import blake3_of, sha256_of, sha512_of
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import to_json_fields
from evidencesync.ingest.receive import receive
from evidencesync.protocol.data_frames import RAW
from evidencesync.protocol.failures import error_from_slug
from evidencesync.protocol.framing import DATA_FRAME, FrameDecoder, decode_message, encode_frame, frame_of
from evidencesync.protocol.messages import (
    ASKING_VERSION,
    PREAMBLE,
    PROTOCOL_VERSION,
    Begin,
    Failure,
    Files,
    Finish,
    Hello,
    Message,
    Page,
    Patience,
    Ready,
    Resumed,
    Welcome,
)
from evidencesync.protocol.packing import pack_bits
from evidencesync.vault.item import lock_item
from tests.support.bench_of_evidence import Bench

MOMENT = "2026-01-02T03:04:05.000000Z"
SECONDS = 30.0
_M = TypeVar("_M", bound=Message)


def data_frame(data: bytes) -> bytes:
    """Raw data as one frame."""
    return encode_frame(DATA_FRAME, bytes([RAW]) + len(data).to_bytes(4, "big"), data)


def entry_of(path: bytes, kind: str = "file", /, content: bytes | None = None, **changes: Any) -> Entry:
    """An entry as a source would state it, with whatever a test wants otherwise."""
    plain, encoded = to_json_fields(path)
    known: dict[str, Any] = {"path": plain, "path_b64": encoded}
    if content is not None:
        known |= {"size": len(content), "blake3": blake3_of(content).hex(), "sha256": sha256_of(content).hex()}
    return Entry(type=kind, **(known | changes))  # type: ignore[arg-type]


ROOT = entry_of(b"", "directory")


class HostileClient:
    """One session with the real `receive`, which runs in a thread. `ended` gives what it ended with."""

    def __init__(
        self, bench: Bench, *, session: str | None = None, may_reconnect: bool = False, host: Host = SINGLE_SESSION
    ) -> None:
        self.bench = bench
        self.host = host
        self.may_reconnect = may_reconnect
        self.session = session or secrets.token_hex(16)
        self.error: EvidenceSyncError | None = None
        self.welcome: Welcome | None = None
        self.ready: Ready | None = None
        self.link, theirs = local_pair()
        self._frames = FrameDecoder()
        self._heard: deque[Message] = deque()
        self._thread = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        self._thread.start()

    def _serve(self, link: LocalLink) -> None:
        try:
            receive(link, self.bench.vault, "a hostile test", may_reconnect=self.may_reconnect, host=self.host)
        except EvidenceSyncError as error:
            self.error = error

    # Talking.

    def send_bytes(self, data: bytes) -> bool:
        """Sends anything; False when the vault's end has hung up."""
        try:
            self.link.write(data)
        except LinkLostError:
            return False
        return True

    def send(self, *messages: Message) -> bool:
        """Sends messages, each well-formed by itself."""
        return self.send_bytes(b"".join(map(frame_of, messages)))

    def send_data(self, data: bytes) -> bool:
        """Sends data, announced or not."""
        return self.send_bytes(data_frame(data))

    def hear(self, kind: type[_M]) -> _M:
        """The vault's next message of a kind; others, and data, are passed over. Raises what the vault says is wrong."""
        while True:
            while self._heard:
                message = self._heard.popleft()
                if isinstance(message, Failure):
                    raise error_from_slug(message.slug, message.message, message.hint)
                if isinstance(message, kind):
                    return message
            block = self.link.read()
            if not block:
                raise LinkLostError("the vault's end has gone")
            frames = self._frames.update(block)
            self._heard.extend(decode_message(number, body) for number, body in frames if number != DATA_FRAME)

    def ended(self) -> EvidenceSyncError:
        """What the session ended with, by itself: nobody hangs up for it."""
        self.joined()
        assert self.error is not None, "the vault's end saw nothing wrong"
        return self.error

    def joined(self) -> None:
        """Waits for the end of the session, for whatever reason."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the vault's end goes on with a hostile peer"

    def hang_up(self) -> EvidenceSyncError:
        """Closes the connection, and gives what the session ended with."""
        self.link.close()
        return self.ended()

    # The handshake.

    def hello(self, **changes: Any) -> Welcome:
        """The first step."""
        said = Hello([PROTOCOL_VERSION], evidencesync.__version__, "push", b"", DELTA_PARAMETERS, 0)
        self.send_bytes(PREAMBLE + frame_of(msgspec.structs.replace(said, **changes)))
        self.welcome = self.hear(Welcome)
        return self.welcome

    def claim(self, welcome: Welcome, **changes: Any) -> bytes:
        """An honest claim, with whatever a test wants otherwise."""
        known = SessionClaim(
            nonce=welcome.nonce.hex(),
            vault_id=welcome.vault_id,
            vault_key=self.bench.vault.signer.public_key.fingerprint,
            case=self.bench.name.case.text,
            item=self.bench.name.item.text,
            session=self.session,
            key=self.bench.signer.public_key.fingerprint,
        )
        return msgspec.json.encode(msgspec.structs.replace(known, **changes))

    def begin(self, claim: bytes, namespace: str = SESSION_NAMESPACE) -> Begin:
        """A claim with a good signature over it."""
        return Begin(
            claim,
            sign_document(self.bench.signer, namespace, sha512_of(claim)),
            read_back=True,
            resumes=False,
            seen=0,
            vault_seen=0,
        )

    def shake_hands(self) -> Ready:
        """An honest handshake: from here on the client is inside, and holds the item's lock."""
        self.send(self.begin(self.claim(self.hello())))
        self.ready = self.hear(Ready)
        return self.ready

    def resume(self) -> Resumed:
        """An honest handshake of a session whose link was lost."""
        self.send(msgspec.structs.replace(self.begin(self.claim(self.hello())), resumes=True))
        return self.hear(Resumed)

    # The manifest.

    def header(self, **changes: Any) -> ManifestHeader:
        """The header of an honest manifest of this session."""
        assert self.ready is not None
        vault, name, previous = self.bench.vault, self.bench.name, self.ready.previous_manifest_sha256
        known = ManifestHeader(
            format="evidencesync-manifest/1",
            vault_id=vault.settings.id,
            vault_key=vault.signer.public_key.fingerprint,
            case=name.case.text,
            item=name.item.text,
            acquisition=self.ready.acquisition,
            session=self.session,
            previous_manifest_sha256=previous.hex() if previous else None,
            examiner=self.examiner(),
            direction="push",
            digests_taken_at="source",
            source=Origin(host="suspect", operating_system="none", path="/evidence"),
            method=Method(
                tool="evidencesync", version="0", command_line=[], digests=["blake3", "sha256"], filters=[], options={}
            ),
            ssh=None,
            started=MOMENT,
            clock=Clock(utc_offset="+00:00"),
            notes=[],
        )
        return msgspec.structs.replace(known, **changes)

    def examiner(self) -> Person:
        """Who signs."""
        assert self.ready is not None
        return Person(name="Ana", principal=self.ready.principal, key=self.bench.signer.public_key.fingerprint)

    def send_page(self, number: int, lines: bytes, *, contents: Sequence[bytes] = (), with_files: bool = False) -> bool:
        """A page with its lines, and (`with_files`) the contents of all its small files."""
        sent = self.send_bytes(frame_of(Page(number, len(lines), with_files, b"")) + data_frame(lines))
        return sent and (not with_files or self.send_files(number, contents))

    def send_files(self, page: int, contents: Sequence[bytes]) -> bool:
        """All small contents of a page."""
        return self.send_bytes(files_frames(page, contents))

    def send_manifest(self, entries: Iterable[Entry], contents: Sequence[bytes] = (), **header: Any) -> bytes:
        """A header page, one page with all entries, a footer page; gives the manifest's bytes."""
        entries = list(entries)
        tally = ManifestTally()
        for entry in entries:
            tally.add(entry)
        first = msgspec.json.encode(self.header(**header)) + b"\n"
        body = b"".join(line for entry in entries for line in encode_entry_lines(entry))
        last = encode_footer(tally.footer(MOMENT))
        self.send_page(0, first)
        self.send_page(1, body, contents=contents, with_files=bool(contents))
        self.send_page(2, last)
        return first + body + last

    def record(self, manifest: bytes, **changes: Any) -> bytes:
        """The `acquired` record of a manifest."""
        assert self.ready is not None
        head = self.ready.chain_head_sha256
        known = CustodyRecord(
            format="evidencesync-custody/1",
            vault_id=self.bench.vault.settings.id,
            sequence=self.ready.chain_sequence + 1,
            type="acquired",
            time=MOMENT,
            case=self.bench.name.case.text,
            item=self.bench.name.item.text,
            actor=self.examiner(),
            previous_sha256=head.hex() if head else None,
            details={},
            acquisition=self.ready.acquisition,
            manifest_sha256=sha256_of(manifest).hex(),
        )
        return encode_record(msgspec.structs.replace(known, **changes))

    def finish(self, manifest: bytes, acquired: bytes | None = None, **changes: Any) -> Finish:
        """An honest end of a manifest of three pages, with whatever a test wants otherwise."""
        signer, record = self.bench.signer, self.record(manifest) if acquired is None else acquired
        known = Finish(
            len(manifest),
            sha256_of(manifest),
            sign_document(signer, MANIFEST_NAMESPACE, sha512_of(manifest)),
            record,
            sign_document(signer, CUSTODY_NAMESPACE, sha512_of(record)),
            pages=3,
        )
        return msgspec.structs.replace(known, **changes)


def files_frames(page: int, contents: Sequence[bytes]) -> bytes:
    """A Files message for all contents of a page, and its data."""
    size = sum(map(len, contents))
    head = frame_of(Files(page, len(contents), pack_bits([True] * len(contents)), size))
    return head + (data_frame(b"".join(contents)) if size else b"")


Snapshot = dict[str, tuple[int, int, int, bytes]]


def snapshot(folder: Path) -> Snapshot:
    """Everything below a folder that no session may change: all but staging areas and the index, which is a cache."""
    found: Snapshot = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if {"incoming", "index"} & set(relative.parts):
            continue
        status = path.lstat()
        data = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(relative)] = (status.st_mode, status.st_ino, status.st_mtime_ns if path.is_file() else 0, data)
    return found


def assert_unharmed(bench: Bench, before: Snapshot) -> None:
    """Nothing was published, nothing around it was written, the lock is free, and the next honest push works."""
    assert snapshot(bench.source.parent) == before
    with lock_item(bench.vault.item(bench.name)):
        pass
    number = len(bench.acquisitions()) + 1
    assert bench.push().acquisition == number


class HostileReader(HostileClient):
    """The same in a session that reads."""

    def claim_to_read(self, **changes: Any) -> bytes:
        """An honest claim, with whatever a test wants otherwise."""
        welcome = self.hello(versions=[ASKING_VERSION], purpose="read")
        known = ReadingClaim(
            purpose="read",
            nonce=welcome.nonce.hex(),
            vault_id=welcome.vault_id,
            vault_key=self.bench.vault.signer.public_key.fingerprint,
            session=self.session,
            key=self.bench.signer.public_key.fingerprint,
        )
        return msgspec.json.encode(msgspec.structs.replace(known, **changes))

    def enter(self, claim: bytes) -> None:
        """The end of the handshake: from here on it may ask."""
        self.send(Patience(60_000, 0, 0), self.begin(claim))
