"""States which failures waiting may end, and which a person has to end: whoever tries again asks here."""

from __future__ import annotations

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
