"""What a pull hears of its own vault's end, which runs beside it in the same process.

The source's end sends manifest lines, or only their names where the vault has them already. So what the examiner signs cannot be
digested as it passes by: it is digested where the vault has read and checked it, line by line.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from evidencesync.custody.manifest import CheckedLine


@dataclass(frozen=True, slots=True)
class Pulled:
    """What makes a session that of a pull: its source's SSH host key (None where it is local), and who hears the lines.

    `overhear` is called in the vault's thread, once a page, in order. It is None where the source is read over SFTP: then nothing
    of what the vault answers reaches the source.
    """

    host_key: str | None
    overhear: Callable[[bytes, list[CheckedLine]], None] | None


@dataclass(frozen=True, slots=True)
class Host:
    """What a session asks the process that serves it beside others: whether it has a place, and how long it may wait."""

    has_place: Callable[[str, Callable[[], None]], bool]
    """Waits a while for one, for whoever has this name. The other argument is called about once a second, so that he hears it."""
    is_closing: Callable[[], bool]
    """Whether a session is to wait no longer for a sender whose link is lost."""
    waiting: Callable[[str], AbstractContextManager[None]] = lambda _who: nullcontext()
    """Entered by a session for as long as it waits for a sender whose link is lost, and who has this name."""


ALONE: Final = Host(lambda _who, _waits: True, lambda: False)
"""A process that serves one session, or that serves itself."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What this process itself knows of a session's connection, for the receipt; and whether its sender may come back."""

    received_from: str
    host_key: str | None
    may_return: bool
    pulled: Pulled | None
    host: Host = ALONE
