"""Names what systems leave where somebody looks into a folder, deletes something in it, or mounts a disk: litter.

A Mac, a Windows machine or a file manager leaves it without being asked, also in a vault that is only looked at. It is nobody's
evidence, and says nothing of what was acquired. Files of such names in a source are evidence like all others: a manifest lists
them, and what a manifest lists is not asked about here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

# Windows finds a name in any case. `._NAME`: what macOS knows of NAME, where the file system has no attributes. `.nfs...` and
# `.fuse_hidden...`: a file that was removed while a process had it open.
_FILES: Final = re.compile(
    rb"\._.+|\.DS_Store|\.localized|\.apdisk|\.directory|(?i:thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini)"
    rb"|\.nfs[0-9a-f]{8,40}|\.fuse_hidden[0-9a-f]{8,40}",
    re.DOTALL,
)
_FOLDERS: Final = re.compile(
    rb"lost\+found|\.Trash(es|-[0-9]{1,10})?|\.fseventsd|\.Spotlight-V100|\.TemporaryItems|\.DocumentRevisions-V100|\.AppleDouble"
    rb"|(?i:system volume information|\$recycle\.bin)|@eaDir|#recycle"
)


def is_litter(name: bytes, *, is_folder: bool) -> bool:
    """Whether a system leaves regular files, or folders, of this name. Nothing else than these two is litter."""
    return (_FOLDERS if is_folder else _FILES).fullmatch(name) is not None


def without_litter(folder: int | Path) -> list[str]:
    """Lists a folder (by its descriptor, or its path) without what is litter. Raises OSError."""
    with os.scandir(folder) as entries:
        return [one.name for one in entries if not _is_left(one)]


def _is_left(entry: os.DirEntry[str]) -> bool:
    is_folder = entry.is_dir(follow_symlinks=False)
    return (is_folder or entry.is_file(follow_symlinks=False)) and is_litter(os.fsencode(entry.name), is_folder=is_folder)
