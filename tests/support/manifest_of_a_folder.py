"""A manifest of a folder as a push writes it, without a vault."""

from __future__ import annotations

from pathlib import Path

from evidencesync.acquire.reading import PageRead, SourceEvent, SourceReading
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import MANIFEST_NAMESPACE, Clock, ManifestHeader, Method, Origin, Person
from evidencesync.custody.manifest import encode_header
from evidencesync.custody.sshsig import SigningKey, sign_document
from evidencesync.evidence.digest import sha512_of
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import resolve_source

FINISHED = "2024-06-01T12:00:00.000001Z"
_FINGERPRINT = "SHA256:" + "A" * 43


def manifest_of(source: Path, *, key: str = _FINGERPRINT, rules: FilterRules | None = None) -> bytes:
    """Its bytes. `key` is the fingerprint that the header names."""
    pages: list[bytes] = [encode_header(header_by(key))]

    def emit(item: SourceEvent, size: int) -> None:
        if isinstance(item, PageRead):
            pages.append(item.lines)

    SourceReading(resolve_source(source), rules or FilterRules.none(), emit, Progress(), lambda: FINISHED).run()
    return b"".join(pages)


def write_manifest(path: Path, source: Path, signer: SigningKey | None = None, rules: FilterRules | None = None) -> Path:
    """The same in a file; with a signer, its signature beside it."""
    if signer is None:
        path.write_bytes(manifest_of(source, rules=rules))
        return path
    data = manifest_of(source, key=signer.public_key.fingerprint, rules=rules)
    path.write_bytes(data)
    path.with_name(path.name + ".sig").write_bytes(sign_document(signer, MANIFEST_NAMESPACE, sha512_of(data)))
    return path


def header_by(key: str) -> ManifestHeader:
    """The first line of a manifest that this key signs."""
    return ManifestHeader(
        format="evidencesync-manifest/1",
        vault_id="0" * 32,
        vault_key=_FINGERPRINT,
        case="2024/17",
        item="1",
        acquisition=1,
        session="1" * 32,
        previous_manifest_sha256=None,
        examiner=Person(name="Ana Novák", principal="ana@lab", key=key),
        direction="push",
        digests_taken_at="source",
        source=Origin(host="laptop", operating_system="Linux", path="/evidence"),
        method=Method(tool="evidencesync", version="0", command_line=["push"], digests=["blake3"], filters=[], options={}),
        ssh=None,
        started="2024-06-01T10:00:00.000000Z",
        clock=Clock(utc_offset="+02:00"),
        notes=[],
    )
