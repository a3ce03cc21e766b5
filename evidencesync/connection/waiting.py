"""States how long waiting may last, and which failures it may end: whoever waits for another end, or tries again, asks here."""

from __future__ import annotations

import time
from typing import Final

from evidencesync.errors import (
    AuthenticationError,
    ChainError,
    ConnectError,
    EvidenceSyncError,
    HostKeyError,
    InterruptedRunError,
    LinkLostError,
    LockedError,
    NoRemoteError,
    NoRoomToRememberError,
    NothingLeftError,
    NotThereError,
    OtherWriterError,
    PeerError,
    SealedError,
    SignatureError,
    SigningKeyError,
    SourceNotFoundError,
    UnkeptReceiptError,
    UsageError,
    VersionError,
)
from evidencesync.evidence.number_format import duration_text

PLACES: Final = (NotThereError, NoRemoteError)
"""What was looked for is not there: a vault, or evidencesync itself. A disk may be mounted again, a program installed again."""
_LASTING: Final = (
    UsageError,
    *PLACES,
    SealedError,
    OtherWriterError,
    SigningKeyError,
    UnkeptReceiptError,  # every further push would publish an acquisition without a receipt here
    VersionError,
    HostKeyError,
    AuthenticationError,
    SignatureError,
    ChainError,
    PeerError,
    InterruptedRunError,
)
# The source may come back, files may come that filters leave, and room may be made.
_PASSING: Final = (SourceNotFoundError, NothingLeftError, NoRoomToRememberError)


def may_pass(error: EvidenceSyncError, *, was_there: bool = False) -> bool:
    """Whether another attempt may succeed though no person has changed anything.

    `was_there`: the vault was reached there before, so that what is missing now (`PLACES`) may come back.
    """
    return isinstance(error, _PASSING) or not isinstance(error, _LASTING) or (was_there and isinstance(error, PLACES))


def is_of_the_way(error: EvidenceSyncError) -> bool:
    """Whether another attempt to come back to a session may succeed. A lock: the vault may not have noticed a lost link yet."""
    return isinstance(error, ConnectError | LinkLostError | LockedError) and may_pass(error, was_there=True)


class Standstill:
    """Bounds how long an end may say that it is there, and show nothing or next to nothing for it. `who` it is, for the error."""

    def __init__(self, who: str, most_seconds: float, timeout_seconds: float) -> None:
        """`timeout_seconds`: who works says so within it. After a longer pause it was not working, and the time begins anew."""
        self._who, self._most, self._timeout = who, most_seconds, timeout_seconds
        self._since = self._last = time.monotonic()
        self._shown = 0

    def end(self) -> None:
        """Records that something was done."""
        self._since = self._last = time.monotonic()

    def show(self, done: int, least_rate: int) -> bool:
        """Records how much has been done in all; returns whether that is progress: so much a second since the time began.

        Less is only said: an end that claims one byte after the other could go on for ever.
        """
        is_progress = done - self._shown > least_rate * (time.monotonic() - self._since)
        if is_progress:
            self._shown = done
            self.end()
        return is_progress

    def go_on(self) -> None:
        """Records that something was only said. Raises LinkLostError when that has lasted too long."""
        now = time.monotonic()
        if now - self._last > self._timeout:
            self._since = now
        self._last = now
        if now - self._since > self._most:
            lasted = duration_text(now - self._since)
            raise LinkLostError(f"{self._who} has said for {lasted} that it works, and has done nothing")
