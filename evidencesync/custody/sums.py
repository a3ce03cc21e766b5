"""Formats lines of SHA256SUMS and BLAKE3SUMS, exactly as GNU sha256sum and b3sum write and read them.

A name that one of the two programs cannot check is left out of its list (None), never written wrongly: the manifest covers it,
and the receipt counts it.
"""

from __future__ import annotations

from typing import Final

from evidencesync.errors import InternalError
from evidencesync.evidence.digest import Blake3Digest, Sha256Digest
from evidencesync.evidence.entry import Entry

PATH_MAX: Final = 4095  # the longest path that open(2) takes, without its final NUL
_DIGEST_SIZE: Final = 32
_PLAIN: Final = 1024  # characters: a shorter path is never refused for its length
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"  # b3sum refuses it as an invalid name, even where the name has it


def sha256sum_line(digest: Sha256Digest, path: bytes) -> bytes | None:
    r"""One line of SHA256SUMS for a path relative to where the check will run; None where open(2) could not take it.

    As coreutils 9 writes it: with a backslash, newline or carriage return in the name, these are `\\`, `\n`, `\r`, and
    the line begins with a backslash. All other bytes stand as they are.
    """
    if len(path) > PATH_MAX:
        return None
    escaped = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return _line(digest, path, escaped)


def b3sum_line(digest: Blake3Digest, path: bytes) -> bytes | None:
    r"""One line of BLAKE3SUMS; None where no version of b3sum could check the name.

    That is: not UTF-8, with U+FFFD, or with a carriage return. Backslashes and newlines are escaped as above.
    """
    if len(path) > PATH_MAX or b"\r" in path:
        return None
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if _REPLACEMENT in text:
        return None
    return _line(digest, path, path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n"))


def entry_lines(folder: str, path: bytes, entry: Entry) -> tuple[bytes | None, bytes | None]:
    """The lines of SHA256SUMS and BLAKE3SUMS for a manifest entry with content, whose files lie below `folder`."""
    text = entry.path
    if text is not None and text.isascii() and len(text) < _PLAIN and "\\" not in text:  # both lists write it as it is
        return f"{entry.sha256}  {folder}/{text}\n".encode("ascii"), f"{entry.blake3}  {folder}/{text}\n".encode("ascii")
    name = folder.encode() + b"/" + path
    sha256, blake3 = bytes.fromhex(entry.sha256 or ""), bytes.fromhex(entry.blake3 or "")
    return sha256sum_line(Sha256Digest(sha256), name), b3sum_line(Blake3Digest(blake3), name)


def _line(digest: bytes, path: bytes, escaped: bytes) -> bytes:
    if len(digest) != _DIGEST_SIZE or not path or b"\0" in path:
        raise InternalError("a line of sums needs a digest of 32 bytes and a path")
    mark = b"" if escaped == path else b"\\"
    return mark + digest.hex().encode("ascii") + b"  " + escaped + b"\n"
