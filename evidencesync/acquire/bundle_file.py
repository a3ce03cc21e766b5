"""Checks the archive of a bundle on this machine as a whole, before any of it is brought to another one.

A bundle is one folder whose SHA256SUMS lists every other file, and may be signed (docs/field-kit.md). An archive with anything
that is not listed, is no regular file, or would lie elsewhere, is refused: it is unpacked where evidence is.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import msgspec
import zstandard

from evidencesync.custody.sshsig import verify_signature
from evidencesync.errors import DigestMismatchError, EvidenceSyncError, MissingOrExtraError, NotThereError
from evidencesync.evidence.digest import HexDigest, sha512_of
from evidencesync.evidence.display import safe_text
from evidencesync.limits import MAX_BUNDLE, MAX_BUNDLE_FILES, MIB

NAMESPACE: Final = "bundle@evidencesync"
PROGRAM: Final = "evidencesync"
_SUMS: Final = "SHA256SUMS"
_SIGNATURE: Final = "SHA256SUMS.sig"
_BLOCK: Final = 1 * MIB
_HINT: Final = "Take another copy of it, or make it anew: make bundle KEY=FILE"


class CheckedBundle(msgspec.Struct, frozen=True):
    """A bundle that is whole. `folder`: the one in its archive. `signed_by`: the key that signed its list; None: nobody."""

    archive: Path
    folder: str
    sums_sha256: HexDigest
    signed_by: str | None

    def packed(self) -> Iterator[bytes]:
        """Yields the archive as `tar -xz` takes it: a machine without evidencesync seldom has zstd."""
        packer = zlib.compressobj(level=6, wbits=31)
        with _unpacked(self.archive) as stream:
            while block := stream.read(_BLOCK):
                yield packer.compress(block)
        yield packer.flush()


def check_bundle(archive: Path) -> CheckedBundle:
    """Reads all of an archive. Raises NotThereError, DigestMismatchError, MissingOrExtraError, SignatureError."""
    shown = safe_text(str(archive), 200)
    try:
        with _unpacked(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            folder, digests, kept = _read(tar, shown)
    except (OSError, tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else f"it is no bundle, or a damaged one ({error})"
        raise NotThereError(f"the bundle {shown} cannot be read: {safe_text(what, 200)}", hint=_HINT) from error
    sums = kept.get(_SUMS, b"")
    listed = dict(_rows(sums))
    if extra := sorted(digests.keys() ^ listed.keys()):
        raise MissingOrExtraError(
            f"the bundle {shown} is not whole: {safe_text(extra[0], 200)} is gone, or not listed", hint=_HINT
        )
    if changed := sorted(name for name, digest in digests.items() if listed[name] != digest):
        raise DigestMismatchError(f"the bundle {shown} is not whole: {safe_text(changed[0], 200)} is changed", hint=_HINT)
    if PROGRAM not in listed:
        raise MissingOrExtraError(f"{shown} is no bundle of evidencesync", hint=_HINT)
    signature = kept.get(_SIGNATURE)
    signed_by = None if signature is None else verify_signature(signature, NAMESPACE, sha512_of(sums)).fingerprint
    return CheckedBundle(archive, folder, hashlib.sha256(sums).hexdigest(), signed_by)


@contextmanager
def _unpacked(archive: Path) -> Iterator[IO[bytes]]:
    """The archive as a stream of tar's, however long a false one says it is."""
    with archive.open("rb") as file, zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file) as stream:
        yield stream


def _read(tar: tarfile.TarFile, shown: str) -> tuple[str, dict[str, str], dict[str, bytes]]:
    """The folder's name, the digest of each file by its name in there, and the list with its signature as they are."""
    folder, left = "", MAX_BUNDLE
    digests: dict[str, str] = {}
    kept: dict[str, bytes] = {}
    for number, member in enumerate(tar):
        top, _, name = member.name.partition("/")
        folder = folder or top
        left -= member.size
        if number > MAX_BUNDLE_FILES or left < 0:
            raise _refused(shown, "it is too large")
        if top != folder or not _is_plain(member.name) or not (member.isreg() or member.isdir()):
            raise _refused(shown, f"{safe_text(member.name, 200)} has no place in it")
        if member.isdir():
            continue
        content = tar.extractfile(member)
        if content is None or name in digests or name in kept:
            raise _refused(shown, f"{safe_text(name, 200)} is in it twice")
        if name in (_SUMS, _SIGNATURE):
            kept[name] = content.read()
        else:
            digests[name] = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type] # it has what that asks for
    return folder, digests, kept


def _refused(shown: str, why: str) -> EvidenceSyncError:
    return MissingOrExtraError(f"the bundle {shown} is none of ours: {why}", hint=_HINT)


def _is_plain(name: str) -> bool:
    """Whether a name leads into the folder, and is what any shell and file system takes."""
    return name.isascii() and name.isprintable() and not name.startswith("/") and ".." not in name.split("/")


def _rows(sums: bytes) -> Iterator[tuple[str, str]]:
    for line in sums.decode("ascii", "replace").splitlines():
        yield line[66:], line[:64]
