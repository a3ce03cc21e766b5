"""How descriptors are closed: once, and what the system says of it counts only where something was written.

On NFS, CIFS and FUSE it is close(2) that may tell of a lost write, of a full disk or of a connection that has ended. The
number is free then, as after any other close: to close it again would close what another thread has opened meanwhile.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import BinaryIO


def let_go(descriptor: int) -> None:
    """Closes what was only read. What was read is known, and no failure to close it changes that."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def reading(descriptor: int) -> BinaryIO:
    """A file object that reads, and owns the descriptor: it is closed as `let_go` does."""
    return io.BufferedReader(_Read(descriptor, "rb"))


def reading_blocks(descriptor: int) -> BinaryIO:
    """As `reading`, without a buffer."""
    return _Read(descriptor, "rb")


class _Read(io.FileIO):
    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()
