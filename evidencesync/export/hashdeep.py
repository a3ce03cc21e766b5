"""Writes hashdeep's list of known files (`%%%% HASHDEEP-1.0`), for `hashdeep -l -a -k FILE -r data` in an acquisition's folder.

hashdeep reads lines of at most 2046 bytes, takes everything after the last needed comma as the name, and unescapes nothing. So
a name with a newline in it, with a carriage return at its end, or of about 1970 bytes and more cannot be listed: hashdeep will
report such a file as new. It reads a longer line as two, so no line here is longer, comments included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import evidencesync
from evidencesync.evidence.display import safe_text
from evidencesync.export.acquisition import AcquisitionReader
from evidencesync.vault.layout import DATA

_MOST_NAMED: Final = 100
_LONGEST_LINE: Final = 2047  # of hashdeep 4.4, with its newline
_SHOWN: Final = 300  # characters of a name in a comment: less than a line also where each takes four bytes


@dataclass(slots=True)
class LeftOut:
    """Names that the list cannot carry: how many, and the first of them, safe to show."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, path: bytes) -> None:
        """One more."""
        self.count += 1
        if len(self.names) < _MOST_NAMED:
            self.names.append(safe_text(path, _SHOWN))


def hashdeep_lines(acquisition: AcquisitionReader, left_out: LeftOut) -> Iterator[bytes]:
    """The lines of the list, with sizes and SHA-256; those that cannot be listed are comments, and are added to `left_out`."""
    header = acquisition.header
    yield b"%%%% HASHDEEP-1.0\n%%%% size,sha256,filename\n"
    about = f"{safe_text(header.case, 100)} / {safe_text(header.item, 100)}, acquisition {header.acquisition}"
    yield f"## {about}, by evidencesync {evidencesync.__version__}\n".encode()
    yield f"## manifest.jsonl has the SHA-256 {acquisition.manifest_sha256}\n".encode()
    yield b"## in the acquisition's folder: hashdeep -l -a -k THIS_FILE -r data\n##\n"
    prefix = DATA.encode() + b"/"
    for path, entry in acquisition.entries():
        if not entry.has_content:
            continue
        name = prefix + path
        line = b"%d,%b,%b\n" % (entry.size or 0, (entry.sha256 or "").encode(), name)
        if b"\n" in name or name.endswith(b"\r") or len(line) > _LONGEST_LINE:
            left_out.add(path)
            yield f"## cannot be listed: {safe_text(path, _SHOWN)}\n".encode()
        else:
            yield line
