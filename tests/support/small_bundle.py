"""A bundle in small: an archive of the right form, whose program is a script of this machine that does what a test wants."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

import zstandard

FOLDER: Final = "evidencesync-0-linux-x86_64"
# As the bundle's own program does.
_SAYS_ITS_DIGEST: Final = 'case $1 in --check-bundle) echo "SHA-256    $(sha256sum < "${0%/*}/SHA256SUMS")"; exit;; esac\n'


def small_bundle(archive: Path, program: str, *, key: Path | None = None, more: dict[str, bytes] | None = None) -> Path:
    """Writes an archive whose program is a shell script. `more`: files that its list does not name."""
    files = {"evidencesync": f"#!/bin/sh\n{_SAYS_ITS_DIGEST}{program}\n".encode(), "README.txt": b"read me\n"}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())).encode()
    files |= {"SHA256SUMS": sums, **(more or {})}
    if key is not None:
        asked: list[str | Path] = ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "bundle@evidencesync"]
        files["SHA256SUMS.sig"] = subprocess.run(asked, input=sums, capture_output=True, check=True).stdout
    return write_archive(archive, [member(name, data) for name, data in files.items()])


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    """One member of an archive, with any name."""
    found = tarfile.TarInfo(name if name.startswith(("/", "..")) else f"{FOLDER}/{name}")
    found.size, found.mode, found.type, found.linkname = len(data), 0o755, kind, target
    return found, data


def write_archive(archive: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """Writes an archive of any members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for found, data in members:
            tar.addfile(found, io.BytesIO(data))
    archive.write_bytes(zstandard.compress(stream.getvalue()))
    return archive
