"""Reads a manifest outside a vault: checks its signature, and yields its entries."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, Self

from evidencesync.compare.entry import AttributeDigest
from evidencesync.compare.store import ManifestFacts
from evidencesync.custody.documents import MANIFEST_NAMESPACE, ManifestHeader
from evidencesync.custody.hardlinks import AT_ONCE, HardLinkCheck, is_hard_link
from evidencesync.custody.manifest import decode_header, read_manifest
from evidencesync.custody.sshsig import verify_signature
from evidencesync.custody.trust import TrustedSigners
from evidencesync.errors import (
    EvidenceSyncError,
    IncompleteError,
    MalformedDocumentError,
    SignatureError,
    StorageError,
    UntrustedSignerError,
    UsageError,
    hinting,
)
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.path import from_json_fields, walk_order
from evidencesync.files.disk import document_blocks, reading, storage_error
from evidencesync.files.holes import has_empty_run
from evidencesync.limits import MAX_HEADER_LINE, MAX_SIGNATURE
from evidencesync.vault.catalog import read_footer
from evidencesync.vault.layout import SIGNATURE_SUFFIX
from evidencesync.verify.documents import reason

_BLOCK: Final = 1 << 20
_WRONG_NAMES: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
_UNVERIFIED: Final = "Without --trusted the manifest is compared unverified."
_JUDGED_ELSEWHERE: Final = f"`verify`, and `receipts check --vault`, judge it by the vault's own records. {_UNVERIFIED}"
_HINT: Final = (
    "MANIFEST comes first, then FOLDER. It is the manifest.jsonl of an acquisition, or of a kept receipt, which "
    "lies where `evidencesync receipts list -v` says."
)
_NOT_READ: Final = "Check the disk and the permissions of what was to be read."


class ExpectedEntry(NamedTuple):
    """An entry of the manifest; `order` sorts as the manifest does. `attributes` is a digest of all that it lists of them."""

    path: bytes
    order: bytes
    entry: Entry
    attributes: bytes | None


class ManifestFile:
    """A manifest that is open. It is read more than once, and must be the same each time."""

    def __init__(self, path: Path) -> None:
        """Opens it, and hashes it. Raises UsageError where there is none."""
        self._path = path
        self._stack = ExitStack()
        with ExitStack() as stack:
            self._file = stack.enter_context(_open(path))
            self._sha256, self._sha512 = self._hash()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def facts(self, trusted: bytes | None, now_ns: int) -> ManifestFacts:
        """Which manifest it is and, where there are `trusted` signers (an allowed_signers file), who vouches for it.

        1. The signature beside it fits its bytes.  2. It is by the key that the header names.  3. That key is trusted for
        manifests, under the examiner's name, now: without a vault nobody else says when it was signed. So a key that was
        trusted until some time before is not judged.
        Raises IncompleteError, MalformedDocumentError, SignatureError, UntrustedSignerError and TrustFileError.
        """
        self._file.seek(0)
        with hinting(_HINT):
            header = decode_header(self._file.readline(MAX_HEADER_LINE + 1))
        key = self._check_signature(header, trusted, now_ns) if trusted is not None else None
        signer = None if key is None else header.examiner.principal
        return ManifestFacts(
            self._sha256,
            header.case,
            header.item,
            header.acquisition,
            header.examiner.name,
            signer,
            key,
            over_sftp=header.digests_taken_at == "arrival",
        )

    def total_bytes(self) -> int:
        """Of all contents that it lists: no single one is larger. Raises MalformedDocumentError."""
        return read_footer(self._file).bytes

    def entries(self, *, attributes: bool) -> Iterator[ExpectedEntry]:
        """All that it lists, strictly read. Raises MalformedDocumentError and PathEscapeError, at the end at the latest."""
        self._file.seek(0)
        hasher = hashlib.sha256()
        pending: ExpectedEntry | None = None
        digest = AttributeDigest()
        links = HardLinkCheck()
        for path, line in read_manifest(self._blocks(hasher)):
            if isinstance(line, Entry):
                links.add(path, line)
                if pending is not None:
                    yield pending._replace(attributes=digest.digest()) if attributes else pending
                pending = ExpectedEntry(path, walk_order(path), line, None)
                if attributes:
                    digest = AttributeDigest()
            if attributes and line.xattrs is not None:
                digest.add(line.xattrs)
        if hasher.hexdigest() != self._sha256:
            raise _changed()
        if pending is not None:
            yield pending._replace(attributes=digest.digest()) if attributes else pending
        for false in links.false_links(self._again):
            raise MalformedDocumentError(false.text)

    def names_of_inodes(self) -> dict[bytes, int] | None:
        """By the first path of an inode that has more of them: how many names are listed. None where there are too many to count.

        Names that are outside the source, or that a filter left out, are listed nowhere. May be asked while `entries` are read.
        """
        hasher = hashlib.sha256()
        names: dict[bytes, int] = {}
        for _, line in read_manifest(self._blocks_apart(hasher)):
            if isinstance(line, Entry) and is_hard_link(line):
                first = from_json_fields(line.hardlink_to, line.hardlink_to_b64)
                names[first] = names.get(first, 1) + 1
                if len(names) > AT_ONCE:
                    return None
        if hasher.hexdigest() != self._sha256:
            raise _changed()
        return names

    def _blocks_apart(self, hasher: hashlib._Hash) -> Iterator[bytes]:
        """From the beginning, whatever is being read at the same time."""
        at = 0
        try:
            while block := os.pread(self._file.fileno(), _BLOCK, at):
                at += len(block)
                hasher.update(block)
                yield block
        except OSError as error:
            raise not_read(error, f"read the manifest {_shown(self._path)}") from error

    def _again(self) -> Iterator[tuple[bytes, Entry]]:
        self._file.seek(0)
        for path, line in read_manifest(self._blocks(hashlib.sha256())):
            if isinstance(line, Entry):
                yield path, line

    def _blocks(self, hasher: hashlib._Hash) -> Iterator[bytes]:
        try:
            yield from document_blocks(self._file, hasher.update)
        except OSError as error:
            raise not_read(error, f"read the manifest {_shown(self._path)}") from error

    def _hash(self) -> tuple[str, bytes]:
        sha256, sha512 = hashlib.sha256(), hashlib.sha512()
        for block in self._blocks(sha256):
            sha512.update(block)
        return sha256.hexdigest(), sha512.digest()

    def _check_signature(self, header: ManifestHeader, trusted: bytes, now_ns: int) -> str:
        signers, principal = TrustedSigners.parse(trusted), header.examiner.principal
        path = self._path.with_name(self._path.name + SIGNATURE_SUFFIX)
        try:
            with _open(path) as file:
                armored = file.read(MAX_SIGNATURE + 1)
        except OSError as error:
            raise not_read(error, f"read {_shown(path)}") from error
        except UsageError as error:
            raise SignatureError(f"the manifest's signature is missing: {error.message}", hint=_UNVERIFIED) from error
        key = verify_signature(armored, MANIFEST_NAMESPACE, self._sha512)
        if key.fingerprint != header.examiner.key:
            raise SignatureError(f"the manifest names the key {header.examiner.key}, but {key.fingerprint} signed it")
        untrusted = signers.reason_untrusted(principal, key, MANIFEST_NAMESPACE, now_ns)
        if untrusted is None:
            return key.fingerprint
        if signers.has_ended(key, MANIFEST_NAMESPACE, now_ns, principal):
            raise IncompleteError(f"{untrusted}; but a manifest alone does not tell when it was signed", hint=_JUDGED_ELSEWHERE)
        raise UntrustedSignerError(untrusted, hint="Give --trusted a file that lists whom you trust.")


def _changed() -> MalformedDocumentError:
    return MalformedDocumentError("the manifest changed while it was read", hint="Compare with a copy that nobody writes to.")


def is_wrong_name(error: BaseException | None) -> bool:
    """Whether the system says that a path does not exist. Other errors come from the disk, permissions, or a shortage."""
    return isinstance(error, OSError) and error.errno in _WRONG_NAMES


def not_read(error: OSError, doing: str) -> EvidenceSyncError:
    """The error for something that cannot be read, so that it cannot be compared."""
    found = storage_error(error, doing)
    return IncompleteError(found.message, hint=_NOT_READ) if isinstance(found, StorageError) else found


def _open(path: Path) -> BinaryIO:
    """A regular file that the user named, through links if need be. What the disk or this process refuses is no wrong name."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not make the opening wait
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and not is_wrong_name(error):
            raise not_read(error, f"open {_shown(path)}") from error
        why = reason(error) if isinstance(error, OSError) else "no possible name"
        raise UsageError(f"{_shown(path)} cannot be opened: {why}", hint=_HINT) from error
    with ExitStack() as stack:
        stack.callback(os.close, fd)
        try:
            is_file = stat.S_ISREG(os.fstat(fd).st_mode)
            has_holes = is_file and has_empty_run(fd)
        except OSError as error:
            raise not_read(error, f"look at {_shown(path)}") from error
        if not is_file:
            raise UsageError(f"{_shown(path)} is not a regular file", hint=_HINT)
        if has_holes:
            raise MalformedDocumentError(f"{_shown(path)} has holes, which no manifest has")
        stack.pop_all()
    return reading(fd)


def _shown(path: Path) -> str:
    return safe_text(os.fsencode(path), 200)
