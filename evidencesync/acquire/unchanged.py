"""Compares a source with the previous acquisition: whether it is the same one, and whether it is unchanged.

An unchanged source need not be published again. The vault's word is not taken for it. It shows the first and the last line of
the previous manifest; between them go the entries that were read now. If no byte of these is another one, the whole has the
digest of the previous manifest. It must stand in the last record of an acquisition in the custody chain, which the vault has
signed, and has shown before.

A file that was not read again (`--quick`) says in which acquisition it was read; where that is the previous one, its line did not
say so there.

Nor is it unchanged where the vault asks for contents: then it has lost what that acquisition had, and may get it only now.
"""

from __future__ import annotations

from evidencesync.acquire.earlier import EarlierFiles
from evidencesync.acquire.handshake import Handshake
from evidencesync.acquire.reading import SourceTally
from evidencesync.acquire.request import PushRequest
from evidencesync.custody.documents import ManifestHeader, Origin
from evidencesync.custody.manifest import decode_footer, decode_header
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.digest import new_sha256
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import ItemName
from evidencesync.evidence.path import from_json_fields
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.localstate.heads import RememberedHead
from evidencesync.localstate.receipts import KeptManifest, ReceiptDraft
from evidencesync.protocol.messages import KEPT_VERSION, Message, Need, SegmentAnswer, Want
from evidencesync.protocol.pages import is_footer, is_header


def other_source(handshake: Handshake, header: ManifestHeader) -> str | None:
    """Returns where the previous acquisition of the item came from, if that is another machine or path. It is safe to show.

    A person may have named the wrong source, or the wrong item. It is the vault's word, and decides nothing.
    """
    if handshake.previous is None:
        return None
    try:
        before, now = decode_header(handshake.previous.header).source, header.source
    except MalformedDocumentError:
        return None
    if is_same_source(before, now):
        return None
    path = from_json_fields(before.path, before.path_b64) if (before.path, before.path_b64) != (None, None) else b""
    return safe_text(f"{before.host}:".encode() + path, 300)


def is_same_source(before: Origin, now: Origin) -> bool:
    """Whether two origins are one path on one machine."""
    known = before.machine_id is not None and now.machine_id is not None
    same_machine = before.machine_id == now.machine_id if known else before.host == now.host
    return same_machine and (before.path, before.path_b64) == (now.path, now.path_b64)


def earlier_files(draft: ReceiptDraft | None, name: ItemName, handshake: Handshake, header: ManifestHeader) -> EarlierFiles:
    """Opens what this machine has of the acquisition before. Where that is of no use, everything is read, and it says why."""
    number, sha256 = handshake.ready.acquisition - 1, handshake.ready.previous_manifest_sha256
    if sha256 is None:
        return EarlierFiles(None, "there is no acquisition before this one")
    if handshake.version < KEPT_VERSION:
        return EarlierFiles(None, "the vault's evidencesync is too old to take what was not read")
    kept = None if draft is None else draft.kept_manifest(name, number, sha256.hex())
    why_not = _why_not(kept, number, header)
    if kept is not None and why_not is not None:
        kept.file.close()
        kept = None
    return EarlierFiles(kept, why_not)


def _why_not(kept: KeptManifest | None, number: int, header: ManifestHeader) -> str | None:
    if kept is None or any(getattr(kept.header, name) != getattr(header, name) for name in ("vault_id", "case", "item")):
        return f"this machine has no receipt with the manifest of acquisition {number}"
    if header.source.device is not None:
        return "a device is always read"
    if not is_same_source(kept.header.source, header.source):
        return f"acquisition {number} came from another source"
    if (kept.footer.remarks or {}).get("metadata-unread"):
        return f"acquisition {number} could not read all attributes"
    if "clock_set_seconds" in kept.acquired.details:
        return f"the clock of this machine was set during acquisition {number}"
    return None


class EntriesCheck:
    """Compares the entries of a manifest with those of the previous acquisition, from the handshake on."""

    def __init__(self, handshake: Handshake) -> None:
        self._sha256 = handshake.ready.previous_manifest_sha256
        # Where the vault has not shown that record, its word is all there is.
        self._previous = handshake.previous if handshake.shown.item.received is not None else None
        self._knows_nothing = handshake.ready.known_contents == 0
        self.lacks = False
        """Whether the vault has asked for a content."""
        self._hasher = new_sha256()
        self._mark = b',"read_in":%d}\n' % (handshake.ready.acquisition - 1)
        if self._previous is not None:
            self._hasher.update(self._previous.header)

    def add(self, page: bytes) -> None:
        """Adds the next page, in order. The header and the footer are of this very acquisition, and are passed over."""
        if not is_header(page) and not is_footer(page):
            self._hasher.update(page.replace(self._mark, b"}\n"))  # at the end of a line nothing else can have this form

    def take_answer(self, answer: Message) -> None:
        """Takes an answer of the vault. Of an unchanged source it asks for no content, but where it has lost some."""
        match answer:
            case SegmentAnswer(known=known):
                self.lacks |= not known
            case Want(missing=missing) | Need(missing=missing):
                self.lacks |= any(missing)

    def is_same(self, header: ManifestHeader, tally: SourceTally) -> bool:
        """Returns, once all pages were added, whether every entry is the same and the source was read whole, and quiet meanwhile.

        What could not be read, or changed while it was read, may be another one now: nobody knows. And it must be the same
        source, read by the same filters: equal entries of another machine, or of a list of files, do not say that this is all.
        """
        if self._previous is None or tally.state.verdict != "complete":
            return False
        if self._knows_nothing and tally.manifest.bytes:  # then all was sent, and nothing asked
            return False
        self._hasher.update(self._previous.footer)
        if self._hasher.digest() != self._sha256:
            return False
        try:
            before = decode_header(self._previous.header)
            decode_footer(self._previous.footer)  # one line: a vault could put entries before it that are not there any more
        except MalformedDocumentError:
            return False
        return (before.source, before.method.filters) == (header.source, header.method.filters)


class UnchangedSource(Exception):  # noqa: N818 - no error: the other way in which a push or a pull ends well
    """Nothing has changed since `acquisition`, and nothing was published. `manifest_sha256` is that of this acquisition, in hex.

    `seen` are the heads of the vault's chains, to be remembered.
    """

    def __init__(
        self,
        name: ItemName,
        vault_id: str,
        acquisition: int,
        manifest_sha256: str,
        tally: SourceTally,
        seconds: float,
        seen: list[RememberedHead],
    ) -> None:
        self.name = name
        self.vault_id = vault_id
        self.acquisition = acquisition
        self.manifest_sha256 = manifest_sha256
        self.tally = tally
        self.seconds = seconds
        self.seen = seen


def unchanged(request: PushRequest, handshake: Handshake, tally: SourceTally, seconds: float, now: UtcTime) -> UnchangedSource:
    """Makes what ends a push or a pull of an unchanged source."""
    ready = handshake.ready
    return UnchangedSource(
        request.name,
        handshake.vault_id,
        ready.acquisition - 1,
        (ready.previous_manifest_sha256 or b"").hex(),
        tally,
        seconds,
        handshake.shown.remembered(now),
    )
